//! The handlers, one file per subject, and the document that describes them.

pub mod document;
pub mod feedback;
pub mod health;
pub mod recommend;
pub mod records;
