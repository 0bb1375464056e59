//! Models that learn from the whole graph of who acted on what.

use std::sync::Arc;

use millstream_data::Interactions;
use millstream_models::input::{Feeder, Planned};
use millstream_models::retriever::{EdgeTargets, Targets};
use millstream_nn::{Bipartite, Inputs, Mode, Pass, Tensor};
use millstream_schema::{Assembler, Batch, Column, Examples};
use millstream_store::RowsMut;

use crate::Error;
use crate::learner::{Learner, Model};

/// The graph of the training positives, and all its nodes as one batch.
pub(crate) struct WholeGraph {
    graph: Arc<Bipartite>,
    /// Requests are all users, candidates all items, without histories.
    nodes: Batch,
    planned: Planned,
}

impl WholeGraph {
    /// The batch of all nodes.
    pub(crate) fn nodes(&self) -> (&Batch, &Planned) {
        (&self.nodes, &self.planned)
    }
}

impl Learner {
    /// Whether the model learns from a graph and needs [`Learner::set_graph`] before its first step.
    pub fn learns_graph(&self) -> bool {
        matches!(&self.model, Model::Retriever(model) if model.graph().is_some())
    }

    /// Gives the graph to learn from: all users and items of the assembler, an edge for each training positive.
    ///
    /// # Errors
    /// Positives of other users or items, or more of them than 2³¹.
    pub fn set_graph(&mut self, assembler: &Assembler, positives: &Interactions) -> Result<(), Error> {
        let (users, items) = (assembler.users(), assembler.items());
        let mut offsets = positives.offsets.clone();
        if offsets.len() > users + 1 {
            return Err(Error::Config(format!(
                "positives of {} users, but there are {users}",
                offsets.len() - 1
            )));
        }
        offsets.resize(users + 1, positives.items.len() as u32);
        let graph = Bipartite::new(items, &offsets, &positives.items)?;
        let mut all = Examples {
            request_user: (0..users as u32).collect(),
            request_time_ms: vec![0; users],
            candidate_request: vec![users.saturating_sub(1) as u32; items],
            candidate_item: (0..items as u32).collect(),
            exposure: assembler.encoder().exposure_defaults(items)?,
            context: assembler.encoder().context_defaults(users)?,
            labels: vec![0.0; items * self.tasks().len()],
            tasks: self.tasks().len(),
            ..Examples::default()
        };
        (0..users).for_each(|_| all.history.push([]));
        let nodes = assembler.batch(&all)?;
        let planned = Feeder::new(&self.fields).plan(&self.fields, &nodes)?;
        self.graph = Some(WholeGraph { graph: Arc::new(graph), nodes, planned });
        Ok(())
    }

    /// The loss of a batch's edges; `x` holds all nodes.
    pub(crate) fn edges_loss(&self, pass: &Pass, x: &Inputs, batch: &Batch) -> Result<Tensor, Error> {
        let (Model::Retriever(model), Some(whole)) = (&self.model, &self.graph) else {
            return Err(Error::Config(format!(
                "`{}` learns from the graph of who acted on what, which this training has not",
                self.setting.model.name
            )));
        };
        let Some(model) = model.graph() else {
            return Err(Error::Config(format!("`{}` learns from no graph", self.setting.model.name)));
        };
        let known = |user: &&u32| (**user as usize) < whole.graph.users();
        let users: Vec<u32> = batch.group.iter().take(batch.requests).filter(known).copied().collect();
        if users.len() != batch.requests || batch.item.iter().any(|i| *i as usize >= whole.graph.items()) {
            return Err(Error::Config("a batch has a user or an item that is not in the graph".into()));
        }
        let log_q = self.log_q(batch)?;
        let weights = batch.weights.get(..batch.requests).unwrap_or(&[]);
        let mixed = self.setting.training.in_batch;
        let items = Targets { items: &batch.item, log_q: &log_q, weights, mixed, own: 0 };
        let y = EdgeTargets { users: &users, items };
        Ok(model.loss(pass, x, &whole.graph, &y))
    }

    /// Writes the rows that serve in place of the graph; nothing for a model without one.
    ///
    /// # Errors
    /// None that a graph which was given allows.
    pub(crate) fn settle(&mut self) -> Result<(), Error> {
        let (Model::Retriever(model), Some(whole)) = (&self.model, &self.graph) else { return Ok(()) };
        let Some(model) = model.graph() else { return Ok(()) };
        let settled = {
            let pass = Pass::new(&self.params, Mode::Infer, 0);
            let (store, tables) = (&self.store, &self.tables);
            let x = whole.planned.inputs(
                &pass,
                (&self.fields, &whole.nodes),
                self.params.tables(),
                |at, keys, out| Ok(store.pull_or_init(tables[at], keys, out)?),
            )?;
            model.settled(&pass, &x, &whole.graph)
        };
        let Some(Column::Key(keys)) = whole.nodes.columns.get(model.item()) else {
            return Err(Error::Config("the items of a graph have one key each".into()));
        };
        let mut places = Vec::new();
        for (table, rows) in settled {
            let at = self.tables[table.index()];
            let width = rows.len() / keys.len().max(1);
            let mut store = self.store.exclusive();
            store.find(at, keys, &mut places)?;
            for (place, row) in places.iter().zip(rows.chunks_exact(width.max(1))) {
                if place.is_some() {
                    store.row(at, *place)[..width].copy_from_slice(row);
                }
            }
        }
        Ok(())
    }
}
