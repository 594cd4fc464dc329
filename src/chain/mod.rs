//! Images stacked: one view through a whole backing chain.
