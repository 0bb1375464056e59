//! Examples before assembly: who was asked, what was shown, what they had done, what came of it.
//! This is what the prepared form holds and what a server logs.

use serde::{Deserialize, Serialize};

use crate::{Columns, Error};

/// Past actions per request, oldest first, ragged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// `[R + 1]`.
    pub offsets: Vec<u32>,
    /// Catalogue row of each action's item.
    pub item: Vec<u32>,
    /// When, epoch milliseconds.
    pub time_ms: Vec<i64>,
    /// [`crate::EventKind::code`].
    pub kind: Vec<u16>,
    /// The action's value.
    pub value: Vec<f32>,
}

impl Default for History {
    fn default() -> Self {
        Self { offsets: vec![0], item: vec![], time_ms: vec![], kind: vec![], value: vec![] }
    }
}

/// One past action.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Action {
    /// Catalogue row.
    pub item: u32,
    /// When, epoch milliseconds.
    pub time_ms: i64,
    /// [`crate::EventKind::code`].
    pub kind: u16,
    /// The action's value.
    pub value: f32,
}

impl History {
    /// Adds one request's actions, oldest first.
    pub fn push(&mut self, actions: impl IntoIterator<Item = Action>) {
        for a in actions {
            self.item.push(a.item);
            self.time_ms.push(a.time_ms);
            self.kind.push(a.kind);
            self.value.push(a.value);
        }
        self.offsets.push(self.item.len() as u32);
    }

    /// Number of requests.
    pub fn rows(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Where the actions of request `row` are.
    pub fn span(&self, row: usize) -> std::ops::Range<usize> {
        self.offsets[row] as usize..self.offsets[row + 1] as usize
    }

    /// The action at this place of a [`History::span`].
    pub fn action(&self, at: usize) -> Action {
        Action { item: self.item[at], time_ms: self.time_ms[at], kind: self.kind[at], value: self.value[at] }
    }

    /// The requests named, in that order.
    pub fn gather(&self, rows: &[u32]) -> Self {
        let mut out = Self::default();
        for &row in rows {
            let span = self.span(row as usize);
            out.item.extend_from_slice(&self.item[span.clone()]);
            out.time_ms.extend_from_slice(&self.time_ms[span.clone()]);
            out.kind.extend_from_slice(&self.kind[span.clone()]);
            out.value.extend_from_slice(&self.value[span]);
            out.offsets.push(out.item.len() as u32);
        }
        out
    }

    /// Appends the requests of another.
    pub fn append(&mut self, other: &Self) {
        let base = self.item.len() as u32;
        self.offsets.extend(other.offsets.iter().skip(1).map(|end| base + end));
        self.item.extend_from_slice(&other.item);
        self.time_ms.extend_from_slice(&other.time_ms);
        self.kind.extend_from_slice(&other.kind);
        self.value.extend_from_slice(&other.value);
    }

    fn check(&self, rows: usize) -> bool {
        let n = self.item.len();
        self.offsets.len() == rows + 1
            && self.offsets.first() == Some(&0)
            && self.offsets.is_sorted()
            && self.offsets.last().is_some_and(|&end| end as usize == n)
            && self.time_ms.len() == n
            && self.kind.len() == n
            && self.value.len() == n
    }
}

/// R requests and their N candidates, before user, item and history fields are joined in.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Examples {
    /// `[R]` user rows ([`crate::ids::NO_ROW`] for a stranger).
    pub request_user: Vec<u32>,
    /// `[R]` epoch milliseconds.
    pub request_time_ms: Vec<i64>,
    /// Past actions of each request.
    pub history: History,
    /// Context fields, `[R]` rows.
    pub context: Columns,
    /// `[N]`: request of each candidate, rising.
    pub candidate_request: Vec<u32>,
    /// `[N]` catalogue rows; empty for a plain table, whose item fields stand in `exposure`.
    pub candidate_item: Vec<u32>,
    /// Exposure fields, `[N]` rows (for a plain table: all candidate fields).
    pub exposure: Columns,
    /// `[N, T]`, row-major.
    pub labels: Vec<f32>,
    /// T.
    pub tasks: usize,
    /// `[N]`, or empty when all are 1.
    pub weights: Vec<f32>,
}

impl Examples {
    /// R.
    pub fn requests(&self) -> usize {
        self.request_user.len()
    }

    /// N.
    pub fn candidates(&self) -> usize {
        self.candidate_request.len()
    }

    /// The requests named with all their candidates, in that order. O(rows out + R).
    pub fn gather(&self, requests: &[u32]) -> Self {
        let starts = self.candidate_starts();
        let mut candidates = Vec::new();
        let mut candidate_request = Vec::new();
        for (new, &old) in requests.iter().enumerate() {
            let span = starts[old as usize]..starts[old as usize + 1];
            candidate_request.extend(span.clone().map(|_| new as u32));
            candidates.extend(span);
        }
        let pick = |from: &[u32]| -> Vec<u32> { candidates.iter().map(|&c| from[c as usize]).collect() };
        let t = self.tasks;
        Self {
            request_user: requests.iter().map(|&r| self.request_user[r as usize]).collect(),
            request_time_ms: requests.iter().map(|&r| self.request_time_ms[r as usize]).collect(),
            history: self.history.gather(requests),
            context: self.context.gather(if self.context.fields.is_empty() { &[] } else { requests }),
            candidate_item: if self.candidate_item.is_empty() { vec![] } else { pick(&self.candidate_item) },
            exposure: self.exposure.gather(if self.exposure.fields.is_empty() { &[] } else { &candidates }),
            labels: candidates
                .iter()
                .flat_map(|&c| self.labels[c as usize * t..][..t].iter().copied())
                .collect(),
            tasks: t,
            weights: if self.weights.is_empty() {
                vec![]
            } else {
                candidates.iter().map(|&c| self.weights[c as usize]).collect()
            },
            candidate_request,
        }
    }

    /// `[R + 1]`: where each request's candidates begin.
    fn candidate_starts(&self) -> Vec<u32> {
        let mut starts = vec![0u32; self.requests() + 1];
        for &r in &self.candidate_request {
            starts[r as usize + 1] += 1;
        }
        for i in 1..starts.len() {
            starts[i] += starts[i - 1];
        }
        starts
    }

    /// Appends the requests of another with the same fields and tasks.
    pub fn append(&mut self, other: &Self) -> Result<(), Error> {
        if self.requests() == 0 {
            *self = other.clone();
            return Ok(());
        }
        // Without candidates a column is empty anyway.
        let both = self.candidates() > 0 && other.candidates() > 0;
        let alike = self.weights.is_empty() == other.weights.is_empty()
            && self.candidate_item.is_empty() == other.candidate_item.is_empty();
        if self.tasks != other.tasks || both && !alike {
            return Err(Error::Corrupt("examples of different tasks cannot be joined".into()));
        }
        let base = self.requests() as u32;
        self.request_user.extend_from_slice(&other.request_user);
        self.request_time_ms.extend_from_slice(&other.request_time_ms);
        self.history.append(&other.history);
        self.context.append(&other.context)?;
        self.candidate_request.extend(other.candidate_request.iter().map(|r| base + r));
        self.candidate_item.extend_from_slice(&other.candidate_item);
        self.exposure.append(&other.exposure)?;
        self.labels.extend_from_slice(&other.labels);
        self.weights.extend_from_slice(&other.weights);
        Ok(())
    }

    /// Checks all inner lengths; for examples read from a file or a log.
    pub fn check(&self) -> Result<(), Error> {
        let (r, n) = (self.requests(), self.candidates());
        let sound = self.request_time_ms.len() == r
            && self.history.check(r)
            && self.candidate_request.is_sorted()
            && self.candidate_request.last().is_none_or(|&last| (last as usize) < r)
            && (self.candidate_item.is_empty() || self.candidate_item.len() == n)
            && Some(self.labels.len()) == n.checked_mul(self.tasks)
            && (self.weights.is_empty() || self.weights.len() == n)
            && (self.context.fields.is_empty() || self.context.rows == r)
            && (self.exposure.fields.is_empty() || self.exposure.rows == n);
        if !sound {
            return Err(Error::Corrupt("a block of examples has columns of different lengths".into()));
        }
        self.context.check()?;
        self.exposure.check()
    }
}
