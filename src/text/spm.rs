//! SentencePiece's BPE from a list of scored tokens: which pairs merge, and in which order.
//!
//! SentencePiece joins the neighbours whose joined token has the best score. That is BPE with a merge for every way to
//! split a token into two tokens, ranked by the score of the whole.
use rayon::prelude::*;
use std::collections::HashMap;

/// Longer tokens have no merges; the longest real ones have about 100 bytes.
const MAX_BYTES: usize = 512;

/// Merges `(left, right)` as ids, best first. `ids` maps the tokens that merging may read and make; `scores` is by id.
pub(super) fn merges(ids: &HashMap<&str, u32>, scores: &[f32]) -> Vec<(u32, u32)> {
    let mut tokens: Vec<(&str, u32)> =
        ids.iter().map(|(&t, &id)| (t, id)).filter(|(t, _)| t.len() <= MAX_BYTES).collect();
    let score = |id: u32| scores.get(id as usize).copied().unwrap_or(f32::NEG_INFINITY);
    tokens.sort_unstable_by(|a, b| score(b.1).total_cmp(&score(a.1)).then(a.1.cmp(&b.1)));
    let splits = |&(token, _): &(&str, u32)| {
        let cuts = token.char_indices().skip(1);
        cuts.filter_map(|(at, _)| Some((*ids.get(&token[..at])?, *ids.get(&token[at..])?))).collect::<Vec<_>>()
    };
    tokens.par_iter().flat_map_iter(splits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_split_of_the_best_token_comes_first() {
        let tokens = ["a", "b", "c", "ab", "bc", "abc"];
        let ids: HashMap<&str, u32> = tokens.into_iter().zip(0..).collect();
        let scores = [-9.0, -9.0, -9.0, -2.0, -1.0, -3.0];
        assert_eq!(merges(&ids, &scores), [(1, 2), (0, 1), (0, 4), (3, 2)]);
    }
}
