use super::Inverted;
use crate::error::Result;
use crate::file::{self, Payload, Writer};
use std::path::Path;

const MAGIC: [u8; 8] = *b"MILLINVT";
const VERSION: u32 = 1;

impl Inverted {
    /// Writes the index to a file, which replaces what was at `path` only when complete. The same items with
    /// the same terms give the same file, whatever the order of changes.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) when the disk refuses.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let mut terms: Vec<(&str, u32)> = self.numbers.iter().map(|(term, &n)| (&**term, n)).collect();
        terms.sort_unstable();
        let mut places = vec![0; self.lists.len()];
        for (&(_, number), place) in terms.iter().zip(0..) {
            places[number as usize] = place;
        }
        let mut items: Vec<_> = self.items.iter().collect();
        items.sort_unstable_by_key(|&(item, _)| *item);
        let mut out = Writer::default();
        out.u32s(&terms.iter().map(|(term, _)| term.len() as u32).collect::<Vec<_>>());
        out.bytes(&terms.iter().flat_map(|(term, _)| term.bytes()).collect::<Vec<_>>());
        out.u32s(&items.iter().map(|&(&item, _)| item).collect::<Vec<_>>());
        out.f32s(&items.iter().map(|(_, entry)| entry.score).collect::<Vec<_>>());
        out.u32s(&items.iter().map(|(_, entry)| entry.terms.len() as u32).collect::<Vec<_>>());
        let mut of_items = Vec::new();
        for (_, entry) in &items {
            let start = of_items.len();
            of_items.extend(entry.terms.iter().map(|&number| places[number as usize]));
            of_items[start..].sort_unstable();
        }
        out.u32s(&of_items);
        out.save(path.as_ref(), MAGIC, VERSION)
    }

    /// Opens a file made by [`Inverted::save`].
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) when it cannot be read, [`Error::Corrupt`](crate::Error::Corrupt)
    /// when it is not such a file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = file::read(path, MAGIC, VERSION)?;
        let mut from = Payload { bytes: &bytes, path };
        let lens = from.u32s()?;
        let text = from.bytes()?;
        let terms = cut(text, &lens).ok_or_else(|| from.flaw("the terms are not text"))?;
        let (items, scores, counts) = (from.u32s()?, from.f32s()?, from.u32s()?);
        let of_items = from.u32s()?;
        from.end()?;
        if items.len() != scores.len() || items.len() != counts.len() {
            return Err(from.flaw("the items do not match their scores"));
        }
        let mut index = Self::new();
        let mut rest = of_items.as_slice();
        for ((&item, &score), &count) in items.iter().zip(&scores).zip(&counts) {
            let (own, after) = rest
                .split_at_checked(count as usize)
                .ok_or_else(|| from.flaw("an item's terms are cut short"))?;
            rest = after;
            let own: Option<Vec<&str>> = own.iter().map(|&at| terms.get(at as usize).copied()).collect();
            let own = own.ok_or_else(|| from.flaw("an item has an unknown term"))?;
            if index.score(item).is_some() {
                return Err(from.flaw("an item is there twice"));
            }
            index.upsert(item, score, &own).map_err(|e| from.flaw(&e.to_string()))?;
        }
        if !rest.is_empty() || index.numbers.len() != terms.len() {
            return Err(from.flaw("terms are left over"));
        }
        Ok(index)
    }
}

/// Pieces of these lengths, when they make up the whole text.
fn cut<'a>(text: &'a [u8], lens: &[u32]) -> Option<Vec<&'a str>> {
    let mut rest = std::str::from_utf8(text).ok()?;
    let mut pieces = Vec::with_capacity(lens.len());
    for &len in lens {
        let (piece, after) = rest.split_at_checked(len as usize)?;
        pieces.push(piece);
        rest = after;
    }
    rest.is_empty().then_some(pieces)
}
