//! Sessions: what a user wanted in each visit, and how one led to the next.

use super::{Linear, Lstm, PairWeighting, SeqPool, Sequence, TransformerBlock, TransformerConfig};
use crate::error::Result;
use crate::init::Init;
use crate::pairs::Pairs;
use crate::params::{ParamId, Params};
use crate::pass::Pass;
use crate::ragged::Ragged;
use crate::tensor::Tensor;
use std::sync::Arc;

/// Sessions and places in a session that the bias tells apart; further ones share the last.
const BIASES: (usize, usize) = (32, 64);
/// Deviation of fresh biases.
const STD: f32 = 0.01;

/// The layers of the deep session interest network (Feng et al., IJCAI 2019).
///
/// An element of a history's session k at place t gets the bias w^K_k + w^T_t + w^C (eq. 3: a number per session and per place, one vector
/// for the columns); a transformer block looks at each session by itself, and its mean is the session's interest I_k (eq. 4 to 6); an
/// LSTM in each direction over a history's sessions gives H_k, their sum (eq. 7); and of both the candidate t takes what concerns it,
/// Σ_k softmax_k ⟨I_k, W t⟩ I_k and the same of H (eq. 8 and 9). Sessions are counted back from the latest, places from a session's start.
#[derive(Debug, Clone)]
pub struct SessionInterest {
    biases: [ParamId; 3],
    block: TransformerBlock,
    directions: [Lstm; 2],
    queries: [Linear; 2],
    weighting: PairWeighting,
    width: usize,
}

impl SessionInterest {
    /// Weights `name.bias.session` `[32, 1]`, `name.bias.place` `[64, 1]`, `name.bias.column` `[W]`, `name.block.…`, `name.forth.…`,
    /// `name.back.…`, and `name.query.interest`, `name.query.state` `[W, K]`, for candidates of width `keys` and elements of the block's width W.
    ///
    /// # Errors
    /// Sizes that do not fit, an α of entmax that is not above 1, or as [`Params::dense`].
    pub fn new(
        params: &mut Params,
        name: &str,
        (keys, block): (usize, &TransformerConfig),
        weighting: PairWeighting,
    ) -> Result<Self> {
        weighting.check(name)?;
        let width = block.width;
        let mut bias = |part: &str, shape: &[usize]| {
            params.dense(&format!("{name}.bias.{part}"), shape, Init::Normal(STD))
        };
        let biases =
            [bias("session", &[BIASES.0, 1])?, bias("place", &[BIASES.1, 1])?, bias("column", &[width])?];
        let block = TransformerBlock::new(params, &format!("{name}.block"), block)?;
        let mut direction = |part: &str| Lstm::new(params, &format!("{name}.{part}"), (width, width));
        let directions = [direction("forth")?, direction("back")?];
        let mut query = |part: &str| {
            let name = format!("{name}.query.{part}");
            Linear::without_bias(params, &name, (keys, width), Init::XavierUniform)
        };
        let queries = [query("interest")?, query("state")?];
        Ok(Self { biases, block, directions, queries, weighting, width })
    }

    /// Interests `[N, 2 W]`; zero for an empty history. All but the candidate's weights is made once per request.
    ///
    /// # Panics
    /// If it is not known which session elements are in, or the sequence has other widths.
    pub fn forward(&self, pass: &Pass, x: &Sequence) -> Tensor {
        let n = x.pairs.candidates();
        let Some(of) = &x.session else { panic!("sessions of a sequence that does not know them") };
        if x.pairs.is_empty() {
            return pass.constant(&[n, 2 * self.width], vec![0.0; 2 * n * self.width]);
        }
        let visits = Visits::new(&x.keys, of);
        let interests = self.interests(pass, x, &visits); // [S, W]
        let states = self.states(pass, &interests);
        let histories = Ragged::of(visits.histories, interests.values().clone());
        let pairs = x.pairs.over(&histories);
        let read = |values: &Tensor, query: &Linear| {
            let scores = values.pair_dot(&query.forward(pass, &x.target), &pairs, 1.0);
            self.weighting.apply(&scores, &pairs).pair_sum(values, &pairs) // [N, W]
        };
        let [by_interest, by_state] = &self.queries;
        Tensor::concat(&[&read(interests.values(), by_interest), &read(&states, by_state)])
    }

    /// What was wanted in each session `[S, W]`, session by session of history by history.
    fn interests(&self, pass: &Pass, x: &Sequence, visits: &Visits) -> Ragged {
        let [session, place, column] = self.biases.map(|id| pass.param(id));
        let bias = session.gather(&visits.session).add(&place.gather(&visits.place)); // [M, 1]
        let values = x.values().add_column(&bias).add_row(&column); // [M, W]
        let sessions = Ragged::of(visits.sessions.clone(), values);
        let seen = self.block.forward(pass, &sessions);
        let each = Pairs::each(&seen);
        let pooled = SeqPool::Mean.forward(pass, &Sequence::new(seen, x.target.clone(), each));
        Ragged::of(visits.histories.clone(), pooled)
    }

    /// The sum of both directions' outputs `[S, W]`.
    fn states(&self, pass: &Pass, interests: &Ragged) -> Tensor {
        let around = (0..interests.rows()).flat_map(|r| interests.span(r).rev()).map(|s| s as u32);
        let around = Arc::new(around.collect::<Vec<u32>>());
        let [forth, back] = &self.directions;
        let turned = interests.with(interests.values().gather(&around));
        let back = back.forward(pass, &turned).values().gather(&around);
        forth.forward(pass, interests).values().add(&back)
    }
}

/// How histories fall into sessions.
struct Visits {
    /// `[S + 1]`: elements of each session.
    sessions: Arc<Vec<u32>>,
    /// `[R + 1]`: sessions of each history.
    histories: Arc<Vec<u32>>,
    /// `[M]`: the bias of each element's session, and of its place there.
    session: Arc<Vec<u32>>,
    place: Arc<Vec<u32>>,
}

impl Visits {
    /// `of` `[M]`: the session of each element, counted back from the latest of its history. A session is a run of equal numbers.
    fn new(keys: &Ragged, of: &[u32]) -> Self {
        let (mut sessions, mut histories) = (vec![0u32], vec![0u32]);
        let mut place = Vec::with_capacity(of.len());
        for span in (0..keys.rows()).map(|r| keys.span(r)) {
            let first = span.start;
            for e in span.clone() {
                if e > first && of[e] != of[e - 1] {
                    sessions.push(e as u32);
                }
                place.push((e as u32 - sessions[sessions.len() - 1]).min(BIASES.1 as u32 - 1));
            }
            if !span.is_empty() {
                sessions.push(span.end as u32);
            }
            histories.push(sessions.len() as u32 - 1);
        }
        let session = of.iter().map(|s| (*s).min(BIASES.0 as u32 - 1)).collect();
        Self {
            sessions: Arc::new(sessions),
            histories: Arc::new(histories),
            session: Arc::new(session),
            place: Arc::new(place),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Mode;

    #[test]
    fn a_session_is_a_run_of_one_history() {
        let params = Params::new(1);
        let pass = Pass::new(&params, Mode::Infer, 0);
        // Two sessions, none, one of three elements, and one of one whose number is that of the history before.
        let of = [1, 0, 0, 40, 40, 40, 40];
        let keys = Ragged::new(Arc::new(vec![0, 3, 3, 6, 7]), pass.constant(&[7, 1], vec![0.0; 7])).unwrap();
        let visits = Visits::new(&keys, &of);
        assert_eq!(*visits.sessions, [0, 1, 3, 6, 7]);
        assert_eq!(*visits.histories, [0, 2, 2, 3, 4]);
        assert_eq!(*visits.place, [0, 0, 1, 0, 1, 2, 0]);
        assert_eq!(*visits.session, [1, 0, 0, 31, 31, 31, 31]);
    }
}
