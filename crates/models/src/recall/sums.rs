//! The sums of one row over a tile of columns: where counting spends its time.
//!
//! A row of few additions writes down the columns that it meets again. Those met once are most, and none of their sums is above the
//! greatest weight: once the others have raised the floor, only columns from some place on can still reach it (scores by an equal
//! sum rise with the column), and the links' lists are gone through again from there only.
//!
//! A row of many additions writes nothing down, and its columns are scanned. Where all weights are 1 the scan compares counts, a
//! register of columns at once, with the least count whose score in the best column of a stripe reaches the floor; columns met
//! again come first, those met once after them, to where they can no longer reach the floor. What is worth an offer cannot be
//! guessed by a processor, so offers are made many at a time and sifted without a branch.

use crate::recall::cooccurrence::{RowTile, Scorer, TILE};
use crate::recall::reach::{NO_PLACES, Reach, STRIPE};
use crate::recall::top::{TOGETHER, Top};

const DAY_MS: f32 = 86_400_000.0;
/// Columns looked at together in a scan.
const SCAN: usize = 16;
/// A row of counts with fewer additions than one for so many columns is not scanned.
const SPARSE: usize = 12;
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
    let additions = at.additions();
    let width = at.scorer().columns();
    if C::UNIT && additions > width / SPARSE {
        add(cells, at, |_, _| {});
        clear_own(cells, at);
        let stripes = &mut cells.as_chunks_mut().0[..width.div_ceil(STRIPE)];
        sift(stripes, at, top);
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
    for columns in again[..met.min(TILE)].chunks(TOGETHER) {
        top.offer_all(columns.iter().map(|&column| {
            // A column that stands here twice is zero the second time.
            let sum = std::mem::take(&mut cells[usize::from(column)]).value();
            (row_of[usize::from(column)], scorer.score(sum, column))
        }));
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
    let row_of = at.row_of();
    let (mut floor, mut first) = (top.floor(), scorer.first(most, top.floor()));
    for &link in at.links() {
        let columns = at.columns(link);
        if columns.last().is_none_or(|&c| usize::from(c) < first) {
            continue;
        }
        for columns in columns[columns.partition_point(|&c| usize::from(c) < first)..].chunks(TOGETHER) {
            top.offer_all(columns.iter().map(|&column| {
                let column = usize::from(column);
                (row_of[column], scorer.score(cells[column].value(), column as u16))
            }));
        }
        if top.floor() > floor {
            (floor, first) = (top.floor(), scorer.first(most, top.floor()));
        }
    }
}

/// Offers and clears all columns of a row whose weights are 1. It goes backwards, for scores by equal counts fall that way: few are
/// offered that do not stay.
fn sift<C: Cell>(cells: &mut [[C; STRIPE]], at: &RowTile<'_>, top: &mut Top) {
    let (scorer, row_of) = (at.scorer(), at.row_of());
    let (last, mut places) = (scorer.columns() - 1, NO_PLACES);
    let best = |stripe: usize| (stripe * STRIPE + STRIPE - 1).min(last) as u16;
    let mut least = 2;
    for (stripe, cells) in cells.iter().enumerate().rev() {
        // It never falls on the way: scores by an equal count do, and the floor rises.
        if scorer.score(least as f32, best(stripe)) < top.floor() {
            least = scorer.least(best(stripe), top.floor()).max(2);
        }
        let n = C::places(cells, C::counted(least), &mut places);
        top.offer_all(places[..n].iter().map(|&place| {
            let column = stripe * STRIPE + usize::from(place);
            (row_of[column], scorer.score(cells[usize::from(place)].value(), column as u16))
        }));
    }
    top.tighten();
    let one = C::counted(1);
    for (stripe, cells) in cells.iter().enumerate().rev() {
        if scorer.score(1.0, best(stripe)) < top.floor() {
            break;
        }
        let n = C::places(cells, one, &mut places);
        top.offer_all(places[..n].iter().map(|&place| {
            let column = stripe * STRIPE + usize::from(place);
            // Those met again were offered before.
            let sum = if cells[usize::from(place)] == one { 1.0 } else { 0.0 };
            (row_of[column], scorer.score(sum, column as u16))
        }));
        if !top.is_tight() {
            top.tighten();
        }
    }
    cells.as_flattened_mut().fill(C::default());
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
