//! Joining and cutting along the first and the last axis.

use super::split::Split;
use crate::buffer::Buffer;
use crate::chunks;
use crate::tensor::{Shape, Tensor, own};
use std::rc::Rc;

/// Copies (or adds) `width` columns between two row-major arrays, `(place, its width, first column)` each.
fn columns(to: (&mut [f32], usize, usize), from: (&[f32], usize, usize), width: usize, add: bool) {
    let ((to, to_width, to_at), (src, src_width, src_at)) = (to, from);
    chunks::rows(to, to_width, |first, rows| {
        let src = &src[first * src_width..];
        for (t, s) in rows.chunks_exact_mut(to_width).zip(src.chunks_exact(src_width)) {
            let (t, s) = (&mut t[to_at..to_at + width], &s[src_at..src_at + width]);
            if add { chunks::add(t, s) } else { t.copy_from_slice(s) }
        }
    });
}

impl Tensor {
    /// `[.., W1]`, `[.., W2]`, .. → `[.., W1 + W2 + ..]`.
    ///
    /// # Panics
    /// If there is no part, or the other axes differ.
    pub fn concat(parts: &[&Tensor]) -> Tensor {
        let first = parts[0];
        let width: usize = parts.iter().map(|p| p.width()).sum();
        let mut out = Buffer::any(first.rows() * width);
        let mut at = 0;
        for part in parts {
            let fits = part.shape.with_width(1) == first.shape.with_width(1);
            assert!(fits, "cannot join {:?} and {:?} along the last axis", first.shape, part.shape);
            columns((&mut out, width, at), (part.data(), part.width(), 0), part.width(), false);
            at += part.width();
        }
        let tracked = parts.iter().any(|p| p.tracked());
        // What belongs to requests still does, side by side with what does not.
        let split =
            if tracked || first.shape().len() != 2 { None } else { Split::joined(parts).map(Rc::new) };
        let parts: Vec<_> = parts.iter().map(|p| (p.node, p.len(), p.width())).collect();
        let out = first.output(first.shape.with_width(width), own(out), tracked, move |g, grads| {
            let mut at = 0;
            for (node, len, w) in parts {
                grads.write(node, len, |gp, add| columns((gp, w, 0), (&g, width, at), w, add));
                at += w;
            }
        });
        Tensor { split, ..out }
    }

    /// As [`Tensor::concat`]; a single part is handed on as it is.
    ///
    /// # Panics
    /// As [`Tensor::concat`].
    pub fn join(parts: impl IntoIterator<Item = Tensor>) -> Tensor {
        let parts: Vec<Tensor> = parts.into_iter().collect();
        match &parts[..] {
            [one] => one.clone(),
            many => Tensor::concat(&many.iter().collect::<Vec<_>>()),
        }
    }

    /// `[.., W]` → `[.., n]`: columns `from .. from + n`.
    ///
    /// # Panics
    /// If they are not there.
    pub fn slice(&self, from: usize, n: usize) -> Tensor {
        let width = self.width();
        assert!(n > 0 && from + n <= width, "columns {from}..{} of {:?}", from + n, self.shape);
        let mut out = Buffer::any(self.rows() * n);
        columns((&mut out, n, 0), (self.data(), width, from), n, false);
        let (node, len) = (self.node, self.len());
        self.output(self.shape.with_width(n), own(out), node.is_some(), move |g, grads| {
            grads.sum(node, len, |a| columns((a, width, from), (&g, n, 0), n, true));
        })
    }

    /// `[N, F, D]` → `[N, F', D]`: the places named of the middle axis, in that order.
    ///
    /// # Panics
    /// If there are not three axes, or a place is not there.
    pub fn pick_middle(&self, places: &[usize]) -> Tensor {
        let &[n, f, d] = self.shape() else { panic!("places of the middle axis of {:?}", self.shape) };
        assert!(places.iter().all(|p| *p < f), "places {places:?} of the middle axis of {:?}", self.shape);
        let mut out = Buffer::any(n * places.len() * d);
        let to = places.len() * d;
        for (i, place) in places.iter().enumerate() {
            columns((&mut out, to, i * d), (self.data(), f * d, place * d), d, false);
        }
        let (node, len, places) = (self.node, self.len(), places.to_vec());
        self.output(Shape::new(&[n, places.len(), d]), own(out), node.is_some(), move |g, grads| {
            grads.sum(node, len, |a| {
                for (i, place) in places.iter().enumerate() {
                    columns((a, f * d, place * d), (&g, to, i * d), d, true);
                }
            });
        })
    }

    /// `[A, ..]`, `[B, ..]`, .. → `[A + B + .., ..]`.
    ///
    /// # Panics
    /// If there is no part, or the other axes differ.
    pub fn stack_rows(parts: &[&Tensor]) -> Tensor {
        let first = parts[0];
        let mut axes = first.shape().to_vec();
        axes[0] = parts.iter().map(|p| p.shape()[0]).sum();
        let shape = Shape::new(&axes);
        let mut out = Buffer::any(shape.len());
        let mut at = 0;
        for part in parts {
            let fits = part.shape()[1..] == first.shape()[1..] && part.shape().len() == axes.len();
            assert!(fits, "cannot join {:?} and {:?} along the first axis", first.shape, part.shape);
            out[at..at + part.len()].copy_from_slice(part.data());
            at += part.len();
        }
        let tracked = parts.iter().any(|p| p.tracked());
        let parts: Vec<_> = parts.iter().map(|p| (p.node, p.len())).collect();
        first.output(shape, own(out), tracked, move |g, grads| {
            let mut at = 0;
            for (node, len) in parts {
                grads.sum(node, len, |gp| chunks::update(gp, &g[at..at + len], |a, b| a + b));
                at += len;
            }
        })
    }

    /// `[N, ..]` → `[n, ..]`: the first-axis range `from .. from + n`.
    ///
    /// # Panics
    /// If it is not there.
    pub fn slice_rows(&self, from: usize, n: usize) -> Tensor {
        assert!(from + n <= self.shape()[0], "rows {from}..{} of {:?}", from + n, self.shape);
        let mut axes = self.shape().to_vec();
        let step: usize = axes[1..].iter().product();
        axes[0] = n;
        let out = Buffer::copy_of(&self.data()[from * step..(from + n) * step]);
        let (node, len) = (self.node, self.len());
        self.output(Shape::new(&axes), own(out), node.is_some(), move |g, grads| {
            grads.sum(node, len, |a| chunks::update(&mut a[from * step..][..g.len()], &g, |a, b| a + b));
        })
    }
}
