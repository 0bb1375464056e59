//! The sums of one row over a tile of columns: where counting spends its time.
//!
//! A row of few additions writes down the columns that it meets again. Those met once are most, and none of their sums is above the
//! greatest weight: once the others have raised the floor, only columns from some place on can still reach it (scores by an equal
//! sum rise with the column), and the links' lists are gone through again from there only.
//!
//! A row of many additions writes nothing down, and its columns are scanned. Where all weights are 1 the scan compares counts, a
//! register of columns at once, with the least count whose score in the best column of a stripe reaches the floor; columns met
//! again come first, those met once after them, from where they can reach the floor.

use crate::recall::cooccurrence::{RowTile, Scorer, TILE};
use crate::recall::reach::{GROUP, Reach};
use crate::recall::top::Top;

const DAY_MS: f32 = 86_400_000.0;
/// Columns looked at together in a scan.
const SCAN: usize = 16;
/// Columns that share a least count.
const STRIPE: usize = 256;
/// A row of counts with fewer additions than one for so many columns is not scanned.
const SPARSE: usize = 24;
/// Links whose columns are asked for together, before they are added: lists are short, and most lie in a cache far off.
const AHEAD: usize = 16;

/// A running sum.
trait Cell: Default + Reach {
    /// All weights are 1.
    const UNIT: bool;
    fn plus(self, weight: f32) -> Self;
    fn value(self) -> f32;
    fn is_zero(self) -> bool;
    /// A count, or the greatest there is.
    fn counted(count: u32) -> Self;
}

macro_rules! counts {
    ($($number:ty),*) => { $(
        impl Cell for $number {
            const UNIT: bool = true;
            fn counted(count: u32) -> Self {
                count.try_into().unwrap_or(Self::MAX)
            }
            #[inline(always)]
            fn plus(self, _: f32) -> Self {
                self.wrapping_add(1)
            }
            #[inline(always)]
            fn value(self) -> f32 {
                self as f32
            }
            #[inline(always)]
            fn is_zero(self) -> bool {
                self == 0
            }
        }
    )* };
}
counts!(u8, u16, u32);

impl Cell for f32 {
    const UNIT: bool = false;
    fn counted(count: u32) -> Self {
        count as Self
    }
    #[inline(always)]
    fn plus(self, weight: f32) -> Self {
        self + weight
    }
    #[inline(always)]
    fn value(self) -> f32 {
        self
    }
    #[inline(always)]
    fn is_zero(self) -> bool {
        // No sum is −0.
        self.to_bits() == 0
    }
}

/// A worker's sums, all zero between rows.
pub(crate) struct Sums {
    /// `[TILE]` each: counts of rows with so few links that they fit, then weighted sums. Empty where they are not used.
    few: Box<[u8]>,
    many: Box<[u16]>,
    most: Box<[u32]>,
    weighted: Box<[f32]>,
    /// `[TILE + 1]`: columns met again, and a place for one that is written in vain.
    again: Box<[u16]>,
}

impl Sums {
    /// Bytes that it holds at most.
    pub(crate) const BYTES: usize = TILE * 9;

    pub(crate) fn new(unit: bool) -> Self {
        let (units, floats) = if unit { (TILE, 0) } else { (0, TILE) };
        Self {
            few: vec![0; units].into_boxed_slice(),
            many: vec![0; units].into_boxed_slice(),
            most: vec![0; units].into_boxed_slice(),
            weighted: vec![0.0; floats].into_boxed_slice(),
            again: vec![0; TILE + 1].into_boxed_slice(),
        }
    }

    /// Sums up one row in one tile, and offers its scores.
    pub(crate) fn count(&mut self, at: &RowTile<'_>, top: &mut Top) {
        let Self { few, many, most, weighted, again } = self;
        let Ok(again) = (&mut **again).try_into() else { return };
        match at.links().len() {
            _ if few.is_empty() => counted(weighted, again, at, top),
            0..=0xff => counted(few, again, at, top),
            0x100..=0xffff => counted(many, again, at, top),
            _ => counted(most, again, at, top),
        }
    }
}

fn counted<C: Cell>(cells: &mut [C], again: &mut [u16; TILE + 1], at: &RowTile<'_>, top: &mut Top) {
    let Ok(cells) = <&mut [C; TILE]>::try_from(cells) else { return };
    let additions: usize = at.links().iter().map(|&l| at.columns(l).len()).sum();
    let width = at.scorer().columns();
    if C::UNIT && additions > width / SPARSE {
        add(cells, at, |_, _| {});
        clear_own(cells, at);
        let groups = &mut cells.as_chunks_mut().0[..width.div_ceil(GROUP)];
        sift(groups, at, top);
        return;
    }
    if additions > TILE.min(width / 2) {
        add(cells, at, |_, _| {});
        clear_own(cells, at);
        millstream_nn::kernels::vectorised!(scan(&mut cells[..width], at, top));
        return;
    }
    let mut met = 0;
    add(cells, at, |column, old: C| {
        // Written always, kept if the column was met before: a branch would be guessed wrong too often.
        again[met & (TILE - 1)] = column;
        met += usize::from(!old.is_zero());
    });
    clear_own(cells, at);
    let (scorer, row_of) = (at.scorer(), at.row_of());
    for &column in &again[..met.min(TILE)] {
        // A column that stands here twice is zero the second time.
        let score = scorer.score(std::mem::take(&mut cells[usize::from(column)]).value(), column);
        if score >= top.floor() {
            top.offer(row_of[usize::from(column)], score);
        }
    }
    top.tighten();
    met_once(cells, at, scorer, top);
    if additions > width / 32 {
        cells[..width].fill(C::default());
    } else {
        at.links().iter().flat_map(|&l| at.columns(l)).for_each(|&c| cells[usize::from(c)] = C::default());
    }
}

/// Adds the links' weights to the columns that they have in common with the row; `seen` is told of each column and its sum before.
#[inline(always)]
fn add<C: Cell>(cells: &mut [C; TILE], at: &RowTile<'_>, mut seen: impl FnMut(u16, C)) {
    if at.of.decay_per_day > 0.0 {
        return add_decayed(cells, at, seen);
    }
    for links in at.links().chunks(AHEAD) {
        // Both ends of each list are read, all at once; what comes of it is not used.
        let ends = |l: u32| at.columns(l).first().zip(at.columns(l).last()).map_or(0, |(a, b)| a ^ b);
        std::hint::black_box(links.iter().fold(0, |x, &l| x ^ ends(l)));
        for &link in links {
            let weight = if C::UNIT { 1.0 } else { at.of.weight(link) };
            for &column in at.columns(link) {
                let cell = &mut cells[usize::from(column)];
                seen(column, *cell);
                *cell = cell.plus(weight);
            }
        }
    }
}

/// As [`add`], with terms that fade by the time between the two actions.
#[inline(never)]
fn add_decayed<C: Cell>(cells: &mut [C; TILE], at: &RowTile<'_>, mut seen: impl FnMut(u16, C)) {
    for (&link, mine) in at.links().iter().zip(at.own_times()) {
        let weight = at.of.weight(link);
        for (&column, other) in at.columns(link).iter().zip(at.times(link)) {
            let days = mine.abs_diff(*other) as f32 / DAY_MS;
            // Never quite zero, or a column could be met without a trace.
            let term = (weight * (-at.of.decay_per_day * days).exp()).max(f32::MIN_POSITIVE);
            let cell = &mut cells[usize::from(column)];
            seen(column, *cell);
            *cell = cell.plus(term);
        }
    }
}

/// An item is no neighbour of its own.
fn clear_own<C: Cell>(cells: &mut [C; TILE], at: &RowTile<'_>) {
    if let Some(own) = at.own() {
        cells[usize::from(own)] = C::default();
    }
}

/// Offers the columns that were met once, which alone are not zero now.
fn met_once<C: Cell>(cells: &[C; TILE], at: &RowTile<'_>, scorer: Scorer<'_>, top: &mut Top) {
    let most = if C::UNIT { 1.0 } else { at.links().iter().map(|&l| at.of.weight(l)).fold(0.0, f32::max) };
    let mut first = scorer.first(most, top.floor());
    let row_of = at.row_of();
    for &link in at.links() {
        for &column in at.columns(link).iter().rev() {
            if usize::from(column) < first {
                break;
            }
            let score = scorer.score(cells[usize::from(column)].value(), column);
            if score >= top.floor() && !top.offer(row_of[usize::from(column)], score) {
                first = scorer.first(most, top.floor());
            }
        }
    }
}

/// Offers and clears all columns of a row whose weights are 1; `cells` are whole groups.
fn sift<C: Cell>(cells: &mut [[C; GROUP]], at: &RowTile<'_>, top: &mut Top) {
    let (scorer, row_of) = (at.scorer(), at.row_of());
    let last = scorer.columns() - 1;
    for (stripe, cells) in cells.chunks(STRIPE / GROUP).enumerate() {
        let best = (stripe * STRIPE + STRIPE - 1).min(last);
        let least = C::counted(scorer.least(best as u16, top.floor()).max(2));
        for (group, cells) in cells.iter().enumerate() {
            reaching(cells, least, |i, count| {
                let column = stripe * STRIPE + group * GROUP + i;
                top.offer(row_of[column], scorer.score(count.value(), column as u16));
            });
        }
    }
    top.tighten();
    let one = C::counted(1);
    let mut first = scorer.first(1.0, top.floor());
    // Backwards, for their scores fall that way.
    for (group, cells) in cells.iter().enumerate().rev() {
        if (group + 1) * GROUP <= first {
            break;
        }
        reaching(cells, one, |i, count| {
            let column = group * GROUP + i;
            if count == one && !top.offer(row_of[column], scorer.score(1.0, column as u16)) {
                first = scorer.first(1.0, top.floor());
            }
        });
    }
    cells.as_flattened_mut().fill(C::default());
}

/// Tells of each cell that is not below `least`.
#[inline(always)]
fn reaching<C: Cell>(cells: &[C; GROUP], least: C, mut tell: impl FnMut(usize, C)) {
    let mut reach = C::reach(cells, least);
    while reach != 0 {
        let i = reach.trailing_zeros() as usize;
        tell(i, cells[i]);
        reach &= reach - 1;
    }
}

/// Offers and clears all columns.
#[inline(always)]
fn scan<C: Cell>(cells: &mut [C], at: &RowTile<'_>, top: &mut Top) {
    let (scorer, row_of) = (at.scorer(), at.row_of());
    let mut scores = [0.0f32; SCAN];
    for (block, cells) in cells.chunks_mut(SCAN).enumerate() {
        let from = block * SCAN;
        for (i, (score, cell)) in scores.iter_mut().zip(cells.iter_mut()).enumerate() {
            *score = scorer.score(std::mem::take(cell).value(), (from + i) as u16);
        }
        let floor = top.floor();
        if scores[..cells.len()].iter().fold(false, |any, s| any | (*s >= floor)) {
            for (i, &score) in scores[..cells.len()].iter().enumerate() {
                if score >= top.floor() {
                    top.offer(row_of[from + i], score);
                }
            }
        }
    }
}
