//! A column of times: refused early in a file, where the configuration is wrong; later, where a row is.

use millstream_schema::{BadValues, Frame};

use super::frames::{Piece, column};
use crate::Error;
use crate::config::TimeColumn;

/// Rows at the start of each file whose times must all be right.
pub(super) const PROBE_ROWS: u64 = 1000;

/// The times of a piece; `None` for a row whose time cannot be used, which is then counted in `bad`.
///
/// # Errors
/// The column is missing; or a time is bad and the row is among the first of its file, or the
/// policy is strict.
pub(super) fn read(
    piece: &Piece,
    time: &TimeColumn,
    key: &str,
    bad: &mut BadValues,
) -> Result<Vec<Option<i64>>, Error> {
    let at = column(&piece.frame, &time.column, key)?;
    (0..piece.frame.rows())
        .map(|row| cell((&piece.frame, row, at), time, piece.row_in_file + (row as u64) < PROBE_ROWS, bad))
        .collect()
}

/// One time; as [`read`].
pub(super) fn cell(
    (frame, row, at): (&Frame, usize, usize),
    time: &TimeColumn,
    early: bool,
    bad: &mut BadValues,
) -> Result<Option<i64>, Error> {
    match time.unit.parse(frame.get(row, at)) {
        Ok(ms) => Ok(Some(ms)),
        Err(reason) if early => Err(Error::Input { place: frame.place(row), reason }),
        Err(reason) => {
            // One reason for all values, or each bad timestamp would be counted on its own.
            bad.add(frame, row, &time.column, &format!("not a usable time ({reason})"))?;
            Ok(None)
        }
    }
}
