//! What an external id may look like.

/// Longest id in bytes.
pub const MAX_ID: usize = 256;

/// Why `id` cannot be the id of `what`, as one sentence without its full stop.
///
/// # Errors
/// It is empty, longer than [`MAX_ID`] bytes, or holds a control character.
///
/// ```
/// use millstream_stream::id::check;
/// assert!(check("user", "anna").is_ok());
/// assert_eq!(check("user", "").unwrap_err(), "`user` must not be empty");
/// ```
pub fn check(what: &str, id: &str) -> Result<(), String> {
    if id.is_empty() {
        return Err(format!("`{what}` must not be empty"));
    }
    if id.len() > MAX_ID {
        return Err(format!("`{what}` must be at most {MAX_ID} bytes long, not {}", id.len()));
    }
    if id.chars().any(char::is_control) {
        return Err(format!("`{what}` must not hold control characters"));
    }
    Ok(())
}
