//! `like`: a text against a pattern. At worst it costs the product of the two lengths, never more.

/// One piece of a pattern.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Piece {
    /// `%`
    Any,
    /// `_`
    One,
    This(char),
}

/// Whether a text looks like a pattern: `%` is any text, `_` any one character, `\` takes the next one as it is.
pub fn like(pattern: &str, text: &str) -> bool {
    let (pieces, text): (Vec<Piece>, Vec<char>) = (parse(pattern), text.chars().collect());
    let (mut piece, mut at) = (0, 0);
    // Where to go on when the text stops matching: behind the last `%`, which then takes one character more.
    let mut retry: Option<(usize, usize)> = None;
    while at < text.len() {
        match pieces.get(piece) {
            Some(Piece::Any) => {
                retry = Some((piece + 1, at));
                piece += 1;
            }
            Some(Piece::One) => (piece, at) = (piece + 1, at + 1),
            Some(Piece::This(wanted)) if *wanted == text[at] => (piece, at) = (piece + 1, at + 1),
            _ => match &mut retry {
                Some((behind, taken)) => {
                    *taken += 1;
                    (piece, at) = (*behind, *taken);
                }
                None => return false,
            },
        }
    }
    pieces[piece..].iter().all(|piece| *piece == Piece::Any)
}

fn parse(pattern: &str) -> Vec<Piece> {
    let mut characters = pattern.chars();
    let mut pieces = Vec::new();
    while let Some(character) = characters.next() {
        pieces.push(match character {
            '%' => Piece::Any,
            '_' => Piece::One,
            // A lone backslash at the end stands for itself.
            '\\' => Piece::This(characters.next().unwrap_or('\\')),
            other => Piece::This(other),
        });
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_what_they_say() {
        for (pattern, text) in [
            ("", ""),
            ("%", ""),
            ("%", "anything"),
            ("%%", ""),
            ("a%", "abc"),
            ("%c", "abc"),
            ("%b%", "abc"),
            ("a_c", "abc"),
            ("a_c", "a\u{fc}c"),
            ("%ab%ab", "abcababab"),
            (r"100\%", "100%"),
            (r"a\_b", "a_b"),
            (r"a\", r"a\"),
        ] {
            assert!(like(pattern, text), "{text:?} is not like {pattern:?}");
        }
        for (pattern, text) in [
            ("", "a"),
            ("_", ""),
            ("a%", "ba"),
            ("a_c", "ac"),
            ("%b", "abc"),
            (r"100\%", "1000"),
            (r"a\_b", "acb"),
            ("ABC", "abc"),
        ] {
            assert!(!like(pattern, text), "{text:?} is like {pattern:?}");
        }
    }

    #[test]
    fn a_pattern_of_many_stars_costs_a_product_and_no_more() {
        let pattern = format!("{}b", "%a".repeat(500));
        assert!(!like(&pattern, &"a".repeat(5_000)));
    }
}
