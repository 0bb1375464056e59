//! Sums over what two rows have in common, row by row, of which the best are kept while counting.
//!
//! ```text
//! s(a → b) = [ Σ_{l ∈ L_a ∩ L_b} w_l · exp(−λ |t_la − t_lb|) ] / ( source_a · target_b + shrinkage )
//! ```
//! ItemCF counts items by common users, UserCF users by common items. A row costs one addition per (link, other row)
//! pair; sums lie in tiles of 2¹⁶ columns, the most frequent columns next to each other, so that they stay in the second-level cache,
//! most of them in the first. A sum's terms are added by rising
//! link, whatever the number of threads and whichever other rows are counted: a row counted alone has the same bits.

use std::ops::Range;

use crate::Error;
use crate::recall::blocks::{Budget, Rows, Size, lists_of};
use crate::recall::lists::InvertedLists;
use crate::recall::positives::Grouped;
use crate::recall::sums::Sums;
use crate::recall::top::Top;

/// Columns of a tile: what 16 bits can name.
pub(crate) const TILE: usize = 1 << 16;

/// Rows by link and links by row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sides {
    pub(crate) by_link: Grouped,
    pub(crate) by_row: Grouped,
}

impl Sides {
    pub(crate) fn new(by_link: Grouped, rows: usize) -> Self {
        let by_row = by_link.transposed(rows);
        Self { by_link, by_row }
    }
}

/// What is counted, and how.
pub(crate) struct Cooccurrence<'a> {
    pub(crate) sides: &'a Sides,
    /// w_l > 0; empty where all are 1.
    pub(crate) weights: Vec<f32>,
    pub(crate) decay_per_day: f32,
    /// `[rows]`.
    pub(crate) source: Vec<f32>,
    /// `[rows]`.
    pub(crate) target: Vec<f32>,
    pub(crate) shrinkage: f32,
    /// Entries kept per row; 0 for all.
    pub(crate) neighbours: usize,
}

impl Cooccurrence<'_> {
    /// The lists of the rows asked for, in their order.
    ///
    /// # Errors
    /// The budget is too small, or there are more pairs than 32 bits can number.
    pub(crate) fn lists(&self, rows: Rows<'_>, budget: Budget) -> Result<InvertedLists, Error> {
        let most = self.sides.by_row.member.len();
        if u32::try_from(most).is_err() {
            return Err(Error::Config(format!("{}: {most} pairs are more than 2^32", budget.model)));
        }
        self.counted(rows, budget)
    }

    /// w_l.
    #[inline(always)]
    pub(crate) fn weight(&self, link: u32) -> f32 {
        self.weights.get(link as usize).copied().unwrap_or(1.0)
    }

    /// Rows whose lists may no longer be those in `lists`, which `old` counted: rising. All others would come out as they are, bit for
    /// bit: a row's list depends on its links' members and weights, and on the norms of the rows in it; a row outside it whose norm
    /// grew stays outside.
    pub(crate) fn stale(&self, old: &Self, lists: &InvertedLists) -> Vec<u32> {
        let (now, then) = (self.sides, old.sides);
        let rows = now.by_row.rows();
        let mut stale = vec![false; rows];
        for link in 0..now.by_link.rows() {
            let known = link < then.by_link.rows();
            let same = known
                && now.by_link.of(link) == then.by_link.of(link)
                && (self.decay_per_day == 0.0 || now.by_link.times_of(link) == then.by_link.times_of(link));
            if !same {
                now.by_link.of(link).iter().for_each(|&r| stale[r as usize] = true);
                let before = if known { then.by_link.of(link) } else { &[] };
                before.iter().for_each(|&r| stale[r as usize] = true);
            }
        }
        let norm = |of: &Self, row: usize| of.target.get(row).copied().unwrap_or(0.0);
        let grown: Vec<bool> = (0..rows).map(|r| norm(self, r) > norm(old, r)).collect();
        for row in 0..lists.items().min(rows) {
            stale[row] |= lists.neighbours(row as u32).iter().any(|x| grown[x.0 as usize]);
        }
        for row in (0..rows).filter(|&r| norm(self, r) < norm(old, r)) {
            for &link in now.by_row.of(row) {
                now.by_link.of(link as usize).iter().for_each(|&r| stale[r as usize] = true);
            }
        }
        (0..rows as u32).filter(|&r| stale[r as usize]).collect()
    }

    /// `lists`, which `old` counted, as they are now: what [`Cooccurrence::lists`] would give for all rows.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn renewed(
        &self,
        old: &Self,
        lists: &InvertedLists,
        budget: Budget,
    ) -> Result<InvertedLists, Error> {
        let stale = self.stale(old, lists);
        let fresh = self.lists(Rows::Some(&stale), budget)?;
        Ok(lists.replaced(self.sides.by_row.rows(), &stale, &fresh))
    }

    fn counted(&self, rows: Rows<'_>, budget: Budget) -> Result<InvertedLists, Error> {
        let unit = self.weights.is_empty() && self.decay_per_day == 0.0;
        let size = Size {
            fixed: Tiles::bytes(self),
            worker: Sums::BYTES,
            rows: rows.count(self.sides.by_row.rows()),
            columns: self.sides.by_row.rows(),
            neighbours: self.neighbours,
        };
        budget.share(&size)?;
        let tiles = Tiles::new(self);
        let one = |sums: &mut Sums, at: usize, top: &mut Top| {
            let row = rows.at(at);
            for tile in 0..tiles.tiles {
                sums.count(&RowTile { of: self, tiles: &tiles, row, tile }, top);
            }
        };
        lists_of(&size, budget, &|| Sums::new(unit), &one)
    }
}

/// The rows of each link, by tile.
struct Tiles {
    tiles: usize,
    /// Rows by falling frequency, ties by row.
    row_of: Vec<u32>,
    /// The reverse.
    rank: Vec<u32>,
    /// `[tiles][links + 1]`.
    ends: Vec<u32>,
    /// Columns inside their tile, rising for each link.
    column: Vec<u16>,
    /// Times beside `column` where they count.
    time_ms: Vec<i64>,
    /// 1 / target by rank, or target where there is a shrinkage.
    target: Vec<f32>,
}

impl Tiles {
    fn bytes(of: &Cooccurrence<'_>) -> usize {
        let (rows, links) = (of.sides.by_row.rows(), of.sides.by_link.rows());
        let pair = if of.decay_per_day > 0.0 { 10 } else { 2 };
        rows * 12 + rows.div_ceil(TILE) * (links + 1) * 4 + of.sides.by_link.member.len() * pair
    }

    fn new(of: &Cooccurrence<'_>) -> Self {
        let by_row = &of.sides.by_row;
        let rows = by_row.rows();
        let row_of = by_frequency(by_row);
        let mut rank = vec![0u32; rows];
        row_of.iter().enumerate().for_each(|(at, &r)| rank[r as usize] = at as u32);
        let target = row_of.iter().map(|&r| {
            let t = of.target[r as usize];
            if of.shrinkage > 0.0 { t } else { t.recip() }
        });
        let target = target.collect();
        let mut out = Self {
            tiles: rows.div_ceil(TILE).max(1),
            row_of,
            rank,
            ends: Vec::new(),
            column: Vec::new(),
            time_ms: Vec::new(),
            target,
        };
        out.fill(of.sides, of.decay_per_day > 0.0);
        out
    }

    /// Lists by rising rank: the rows are gone through in that order.
    fn fill(&mut self, Sides { by_link, by_row }: &Sides, timed: bool) {
        for tile in 0..self.tiles {
            let ranks = tile * TILE..((tile + 1) * TILE).min(self.row_of.len());
            let row = |rank: usize| self.row_of[rank] as usize;
            let mut counts: Vec<usize> = (0..by_link.rows()).map(|link| by_link.count(link)).collect();
            if self.tiles > 1 {
                counts.fill(0);
                let members = ranks.clone().flat_map(|rank| by_row.of(row(rank)));
                members.for_each(|&link| counts[link as usize] += 1);
            }
            let turned = by_row.turned(&counts, ranks, row, |rank| (rank % TILE) as u16);
            let filled = self.column.len();
            self.ends.extend(turned.offsets.iter().map(|end| (filled + end) as u32));
            append(&mut self.column, turned.name);
            if timed {
                append(&mut self.time_ms, turned.time_ms);
            }
        }
    }
}

/// Rows by falling number of members, ties by row.
fn by_frequency(of: &Grouped) -> Vec<u32> {
    let most = (0..of.rows()).map(|row| of.count(row)).max().unwrap_or(0);
    let rarity = |row: u32| most - of.count(row as usize);
    let mut next = vec![0u32; most + 2];
    let rows = 0..of.rows() as u32;
    rows.clone().for_each(|row| next[rarity(row) + 1] += 1);
    (0..=most).for_each(|at| next[at + 1] += next[at]);
    let mut row_of = vec![0; of.rows()];
    for row in rows {
        let to = &mut next[rarity(row)];
        row_of[*to as usize] = row;
        *to += 1;
    }
    row_of
}

/// Without a copy where `more` comes first.
fn append<T: Copy>(to: &mut Vec<T>, more: Vec<T>) {
    if to.is_empty() { *to = more } else { to.extend_from_slice(&more) }
}

/// One row's links in one tile of columns.
pub(crate) struct RowTile<'a> {
    pub(crate) of: &'a Cooccurrence<'a>,
    tiles: &'a Tiles,
    row: usize,
    tile: usize,
}

impl<'a> RowTile<'a> {
    /// Links of the row.
    #[inline(always)]
    pub(crate) fn links(&self) -> &'a [u32] {
        self.of.sides.by_row.of(self.row)
    }

    /// Times beside [`RowTile::links`].
    pub(crate) fn own_times(&self) -> &'a [i64] {
        self.of.sides.by_row.times_of(self.row)
    }

    /// Columns of a link's rows, rising.
    #[inline(always)]
    pub(crate) fn columns(&self, link: u32) -> &'a [u16] {
        &self.tiles.column[self.span(link)]
    }

    /// Times beside [`RowTile::columns`].
    pub(crate) fn times(&self, link: u32) -> &'a [i64] {
        &self.tiles.time_ms[self.span(link)]
    }

    /// Terms of all sums.
    pub(crate) fn additions(&self) -> usize {
        let links = self.of.sides.by_link.rows() + 1;
        let ends = &self.tiles.ends[self.tile * links..][..links];
        self.links().iter().map(|&link| (ends[link as usize + 1] - ends[link as usize]) as usize).sum()
    }

    #[inline(always)]
    fn span(&self, link: u32) -> Range<usize> {
        let at = self.tile * (self.of.sides.by_link.rows() + 1) + link as usize;
        self.tiles.ends[at] as usize..self.tiles.ends[at + 1] as usize
    }

    /// Row of each column.
    pub(crate) fn row_of(&self) -> &'a [u32] {
        &self.tiles.row_of[self.tile * TILE..]
    }

    /// The row's own column, if it is of this tile.
    pub(crate) fn own(&self) -> Option<u16> {
        let rank = self.tiles.rank[self.row] as usize;
        (rank / TILE == self.tile).then_some((rank % TILE) as u16)
    }

    /// Score by sum and column. It does not fall with the column.
    pub(crate) fn scorer(&self) -> Scorer<'a> {
        let source = self.of.source[self.row];
        Scorer {
            source,
            inverse: source.recip(),
            shrinkage: self.of.shrinkage,
            target: &self.tiles.target[self.tile * TILE..],
        }
    }
}

/// s(a → b) from its numerator.
#[derive(Clone, Copy)]
pub(crate) struct Scorer<'a> {
    source: f32,
    inverse: f32,
    shrinkage: f32,
    target: &'a [f32],
}

impl Scorer<'_> {
    #[inline(always)]
    pub(crate) fn score(&self, sum: f32, column: u16) -> f32 {
        let target = self.target[usize::from(column)];
        if self.shrinkage > 0.0 {
            sum / (self.source * target + self.shrinkage)
        } else {
            sum * self.inverse * target
        }
    }

    /// Number of columns of the tile.
    #[inline(always)]
    pub(crate) fn columns(&self) -> usize {
        self.target.len().min(TILE)
    }

    /// Least count whose score in this column is not below `floor`; 0 where scores are too small or too large to tell.
    #[inline(always)]
    pub(crate) fn least(&self, column: u16, floor: f32) -> u32 {
        let one = self.score(1.0, column);
        if !one.is_normal() {
            return 0;
        }
        // Near it; then exactly, as scores are rounded.
        let mut least = (floor / one) as u32;
        while least > 0 && self.score((least - 1) as f32, column) >= floor {
            least -= 1;
        }
        while self.score(least as f32, column) < floor {
            least += 1;
        }
        least
    }

    /// First column whose score with this sum is not below `floor`.
    pub(crate) fn first(&self, sum: f32, floor: f32) -> usize {
        let (mut low, mut high) = (0, self.columns());
        while low < high {
            let middle = (low + high) / 2;
            if self.score(sum, middle as u16) < floor { low = middle + 1 } else { high = middle }
        }
        low
    }
}
