//! Which parts of what is not durable yet survive a power cut.
//!
//! All subsets where they are few. Where they are many, every choice that a simple mistake shows in: nothing,
//! everything, every prefix, each operation missing or alone, two missing, each write torn at each sector with and
//! without what came after it; and a sample of all others. Never every n-th one: what a protocol does repeats, and so
//! does a stride.

/// How many states are looked at where there are too many.
///
/// An example is at [`PowerCut`](crate::storage::PowerCut).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// All subsets as long as there are at most 2 to the power of this, at most 32.
    pub exhaustive_bits: u32,
    /// Every pair of operations missing, as long as there are at most so many operations.
    pub pairs_max: usize,
    /// How many more are picked by the dice.
    pub samples: u32,
    /// How the dice fall.
    pub seed: u64,
}

impl Default for Bounds {
    /// 4096 subsets, pairs of up to 128 operations, 256 samples.
    fn default() -> Self {
        Self { exhaustive_bits: 12, pairs_max: 128, samples: 256, seed: 1 }
    }
}

/// What survives, of the operations that are pending, counted from 0 in the order in which they were asked.
///
/// An example is at [`PowerCut`](crate::storage::PowerCut).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Choice {
    /// Nothing.
    Nothing,
    /// Everything.
    Everything,
    /// The parts of the operations, counted through, whose bits are set; none after the 64th.
    Subset(u64),
    /// The first so many operations.
    First(usize),
    /// All but this one.
    Without(usize),
    /// All but these two.
    WithoutBoth(usize, usize),
    /// This one alone.
    Only(usize),
    /// All operations before this one, and so many parts of it.
    TornLast(usize, usize),
    /// All other operations, and so many parts of this one.
    Torn(usize, usize),
    /// Each part with the same odds of so many in ten, by dice with this seed.
    Sample {
        /// The odds.
        of_ten: u8,
        /// The seed.
        seed: u64,
    },
}

/// Something pending, as far as choosing needs it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Operation {
    /// The blob; `None` for a name.
    pub(super) file: Option<u64>,
    /// Which of what is pending there.
    pub(super) index: usize,
    /// How many parts the operations before it have.
    pub(super) first: usize,
    /// The parts that survive each on its own: at least one.
    pub(super) parts: usize,
}

impl Choice {
    /// Which parts of the operations survive, counted through.
    pub(super) fn of(self, operations: &[Operation]) -> Vec<bool> {
        let mut dice = match self {
            Self::Sample { seed, .. } => Dice(seed),
            _ => Dice(0),
        };
        let mut kept = Vec::with_capacity(parts_of(operations));
        for (index, operation) in operations.iter().enumerate() {
            let parts = (0..operation.parts).map(|part| match self {
                Self::Nothing => false,
                Self::Everything => true,
                Self::Subset(bits) => {
                    let place = operation.first + part;
                    place < 64 && bits >> place & 1 == 1
                }
                Self::First(count) => index < count,
                Self::Without(one) => index != one,
                Self::WithoutBoth(one, other) => index != one && index != other,
                Self::Only(one) => index == one,
                Self::TornLast(one, parts) => index < one || (index == one && part < parts),
                Self::Torn(one, parts) => index != one || part < parts,
                Self::Sample { of_ten, .. } => dice.roll() % 10 < u64::from(of_ten),
            });
            kept.extend(parts);
        }
        kept
    }

    /// The choices to look at, within bounds. The same one may be there twice in other words.
    pub(super) fn all(
        operations: &[Operation],
        bounds: Bounds,
    ) -> Box<dyn Iterator<Item = Self> + Send + Sync> {
        let parts = parts_of(operations);
        let exhaustive = usize::try_from(bounds.exhaustive_bits.min(32)).expect("at most 32");
        if parts <= exhaustive {
            return Box::new((0..1_u64 << parts).map(Self::Subset));
        }
        let count = operations.len();
        let torn: Vec<(usize, usize)> = operations
            .iter()
            .enumerate()
            .flat_map(|(index, operation)| (1..operation.parts).map(move |parts| (index, parts)))
            .collect();
        let pairs = if count <= bounds.pairs_max { count } else { 0 };
        let mut dice = Dice(bounds.seed);
        let samples = (0..bounds.samples).map(move |index| {
            // Few survive, half do, or nearly all: each finds other mistakes.
            let of_ten = [1, 5, 9][index as usize % 3];
            Self::Sample { of_ten, seed: dice.roll() }
        });
        let simple = [Self::Nothing, Self::Everything].into_iter();
        let simple = simple.chain((1..count).map(Self::First));
        let simple = simple.chain((0..count).flat_map(|one| [Self::Without(one), Self::Only(one)]));
        let torn =
            torn.into_iter().flat_map(|(one, parts)| [Self::TornLast(one, parts), Self::Torn(one, parts)]);
        let pairs =
            (0..pairs).flat_map(move |one| (one + 1..pairs).map(move |other| Self::WithoutBoth(one, other)));
        Box::new(simple.chain(torn).chain(pairs).chain(samples))
    }
}

/// How many parts operations have.
fn parts_of(operations: &[Operation]) -> usize {
    operations.last().map_or(0, |last| last.first + last.parts)
}

/// The choices in an order that the dice make, but for two: nothing and everything come first.
pub(super) fn shuffled(choices: impl Iterator<Item = Choice>, seed: u64) -> Vec<Choice> {
    let mut choices: Vec<Choice> = choices.collect();
    let mut dice = Dice(seed);
    for last in (1..choices.len()).rev() {
        let other = dice.roll() % (last as u64 + 1);
        choices.swap(last, usize::try_from(other).expect("at most the last"));
    }
    choices.splice(0..0, [Choice::Nothing, Choice::Everything]);
    choices
}

/// Numbers that are the same for the same seed: the SplitMix64 generator.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }
}
