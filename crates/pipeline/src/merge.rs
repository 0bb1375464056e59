//! Snake merge: the channels' lists dealt into one, and who found what kept for attribution.

use millstream_schema::ItemRow;
use rapidhash::RapidHashMap;

use crate::channel::Candidate;

/// A channel's mention of an item.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hit {
    /// Place of the channel in the pipeline.
    pub channel: u16,
    /// Place of the item in the channel's list, from 0.
    pub position: u32,
    /// The channel's score.
    pub score: f32,
}

/// Distinct items in merged order with all their hits.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Merged {
    /// In merged order.
    pub items: Vec<ItemRow>,
    /// `[items + 1]`.
    offsets: Vec<u32>,
    hits: Vec<Hit>,
}

impl Merged {
    /// All mentions of the item at `position`; first the one by which it came in (first-hit), the others in
    /// order of channels (all-hit).
    pub fn hits(&self, position: usize) -> &[Hit] {
        match self.offsets.get(position..position + 2) {
            Some(span) => &self.hits[span[0] as usize..span[1] as usize],
            None => &[],
        }
    }
}

/// Weighted round-robin over `lists` in serpentine order: forth over the channels, then back, and so on. In
/// each round a channel gains its weight as credit and gives one new item for each whole credit; items
/// that came in before are passed over for free.
///
/// Weights must be positive; each list holds distinct items. O(total length).
pub fn snake(lists: &[&[Candidate]], weights: &[f32]) -> Merged {
    let total = lists.iter().map(|l| l.len()).sum();
    let mut places: RapidHashMap<ItemRow, u32> = RapidHashMap::default();
    places.reserve(total);
    let mut items = Vec::with_capacity(total);
    let mut first = Vec::with_capacity(total);
    let mut next = vec![0usize; lists.len()];
    let mut credit = vec![0f32; lists.len()];
    let mut forth = true;
    while next.iter().zip(lists).any(|(&n, list)| n < list.len()) {
        for turn in 0..lists.len() {
            let channel = if forth { turn } else { lists.len() - 1 - turn };
            // A weight that is no positive number must not keep the loop from ending.
            credit[channel] += weights[channel].max(1e-3);
            while credit[channel] >= 1.0 && next[channel] < lists[channel].len() {
                let item = lists[channel][next[channel]].item;
                next[channel] += 1;
                places.entry(item).or_insert_with(|| {
                    credit[channel] -= 1.0;
                    items.push(item);
                    first.push(channel as u16);
                    items.len() as u32 - 1
                });
            }
        }
        forth = !forth;
    }
    attributed(lists, items, &first, &places)
}

/// As [`snake`] over the lists that are no tails; then the items of the tails, in turns, take the place of whatever
/// would stand on the last places up to `head`, as many as they are but at most half of them. What they displace
/// follows them.
pub fn with_tails(lists: &[&[Candidate]], weights: &[f32], tails: &[bool], head: usize) -> Merged {
    if !tails.contains(&true) {
        return snake(lists, weights);
    }
    let of = |tail: bool| -> Vec<&[Candidate]> {
        lists.iter().zip(tails).map(|(list, &t)| if t == tail { *list } else { &[] }).collect()
    };
    let plain = snake(&of(false), weights);
    let tail = snake(&of(true), &vec![1.0; lists.len()]);
    let cut = head.saturating_sub(tail.items.len()).max(head / 2).min(plain.items.len());
    let mut places: RapidHashMap<ItemRow, u32> = RapidHashMap::default();
    let (mut items, mut first) = (Vec::new(), Vec::new());
    let parts = [(&plain, 0..cut), (&tail, 0..tail.items.len()), (&plain, cut..plain.items.len())];
    for (merged, span) in parts {
        for place in span {
            let item = merged.items[place];
            places.entry(item).or_insert_with(|| {
                items.push(item);
                first.push(merged.hits(place)[0].channel);
                items.len() as u32 - 1
            });
        }
    }
    attributed(lists, items, &first, &places)
}

fn attributed(
    lists: &[&[Candidate]],
    items: Vec<ItemRow>,
    first: &[u16],
    places: &RapidHashMap<ItemRow, u32>,
) -> Merged {
    let mut all: Vec<(u32, bool, Hit)> = Vec::new();
    for (channel, list) in lists.iter().enumerate() {
        for (position, candidate) in list.iter().enumerate() {
            let Some(&place) = places.get(&candidate.item) else { continue };
            let hit = Hit { channel: channel as u16, position: position as u32, score: candidate.score };
            all.push((place, first[place as usize] != hit.channel, hit));
        }
    }
    all.sort_unstable_by_key(|x| (x.0, x.1, x.2.channel));
    let mut offsets = vec![0u32; items.len() + 1];
    all.iter().for_each(|x| offsets[x.0 as usize + 1] += 1);
    for i in 0..items.len() {
        offsets[i + 1] += offsets[i];
    }
    Merged { items, offsets, hits: all.into_iter().map(|x| x.2).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(items: &[u32]) -> Vec<Candidate> {
        items.iter().enumerate().map(|(p, &item)| Candidate { item, score: 1.0 / (p + 1) as f32 }).collect()
    }

    fn merged(lists: &[Vec<Candidate>], weights: &[f32]) -> Merged {
        snake(&lists.iter().map(Vec::as_slice).collect::<Vec<_>>(), weights)
    }

    #[test]
    fn equal_channels_take_turns_forth_and_back() {
        let lists = [list(&[1, 2, 3]), list(&[11, 12, 13]), list(&[21, 22, 23])];
        assert_eq!(merged(&lists, &[1.0; 3]).items, [1, 11, 21, 22, 12, 2, 3, 13, 23]);
    }

    #[test]
    fn weights_are_items_per_round_and_halves_come_every_other_round() {
        let lists = [list(&[1, 2, 3, 4]), list(&[11, 12])];
        assert_eq!(merged(&lists, &[2.0, 1.0]).items, [1, 2, 11, 12, 3, 4]);
        let lists = [list(&[1, 2, 3, 4]), list(&[11, 12])];
        assert_eq!(merged(&lists, &[1.0, 0.5]).items, [1, 11, 2, 3, 12, 4]);
    }

    #[test]
    fn an_item_comes_once_and_keeps_every_mention_first_hit_first() {
        let lists = [list(&[1, 2, 7]), list(&[7, 1, 9]), list(&[])];
        let got = merged(&lists, &[1.0, 1.0, 3.0]);
        assert_eq!(got.items, [1, 7, 9, 2]);
        let hit = |channel, position: u32| Hit { channel, position, score: 1.0 / (position + 1) as f32 };
        assert_eq!(got.hits(0), [hit(0, 0), hit(1, 1)]);
        assert_eq!(got.hits(1), [hit(1, 0), hit(0, 2)]);
        assert_eq!(got.hits(2), [hit(1, 2)]);
        assert_eq!(got.hits(3), [hit(0, 1)]);
        assert!(got.hits(4).is_empty());
    }

    #[test]
    fn every_mention_of_many_lists_is_kept() {
        let lists: Vec<Vec<Candidate>> = (1..6u32)
            .map(|c| {
                list(
                    &(0..40)
                        .map(|i| (i * c * 7 + c) % 97)
                        .collect::<std::collections::BTreeSet<_>>()
                        .into_iter()
                        .collect::<Vec<_>>(),
                )
            })
            .collect();
        let got = merged(&lists, &[1.0, 0.3, 2.5, 1.0, 0.7]);
        let distinct: std::collections::BTreeSet<u32> = got.items.iter().copied().collect();
        assert_eq!(distinct.len(), got.items.len());
        let mentions: usize = (0..got.items.len()).map(|p| got.hits(p).len()).sum();
        assert_eq!(mentions, lists.iter().map(Vec::len).sum::<usize>());
        for (place, item) in got.items.iter().enumerate() {
            for hit in got.hits(place) {
                assert_eq!(lists[hit.channel as usize][hit.position as usize].item, *item);
            }
        }
    }

    #[test]
    fn a_tail_takes_the_last_places_up_to_the_head_and_what_it_displaces_follows() {
        let lists = [list(&[1, 2, 3, 4, 5, 6, 7, 8]), list(&[2, 20, 21, 7])];
        let slices: Vec<&[Candidate]> = lists.iter().map(Vec::as_slice).collect();
        let got = |head: usize| with_tails(&slices, &[1.0, 1.0], &[false, true], head);
        assert_eq!(got(8).items, [1, 2, 3, 4, 20, 21, 7, 5, 6, 8]);
        assert_eq!(got(4).items, [1, 2, 20, 21, 7, 3, 4, 5, 6, 8], "at most half");
        assert_eq!(got(100).items, [1, 2, 3, 4, 5, 6, 7, 8, 20, 21]);
        let eight = got(8);
        let channels = |place: usize| eight.hits(place).iter().map(|h| h.channel).collect::<Vec<_>>();
        assert_eq!(channels(1), [0, 1]);
        assert_eq!(channels(4), [1]);
        assert_eq!(channels(6), [1, 0], "the tail brought it to its place");
        assert_eq!(with_tails(&slices, &[1.0; 2], &[false; 2], 8), snake(&slices, &[1.0; 2]));
    }

    #[test]
    fn nothing_merges_to_nothing() {
        assert!(merged(&[], &[]).items.is_empty());
        assert!(merged(&[list(&[]), list(&[])], &[1.0, 1.0]).items.is_empty());
    }
}
