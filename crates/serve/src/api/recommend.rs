//! Feeds, neighbours and histories.

use axum::Json;
use axum::extract::State;
use millstream_stream::{Action, Profile};

use crate::answer::{Failure, Feed, FeedItem, Neighbor, Neighbors, PastAction, UserHistory};
use crate::engine::{Ask, Ranked};
use crate::observe;
use crate::receive::{Id, Params};
use crate::reject::Reject;
use crate::state::{App, Shared};

/// Items in a feed at most.
pub const MAX_ITEMS: usize = 200;
/// Actions of a history at most.
const MAX_ACTIONS: usize = 500;

/// A feed for a user.
///
/// A user that does not exist gets the non-personal feed, and the answer says so. Every parameter
/// besides `n` and `trace` is a context field of the request.
#[utoipa::path(get, path = "/api/recommend/{user}", tag = "feed",
    params(("user" = String, Path), ("n" = Option<usize>, Query, description = "Items wanted, 1 to 200; 10 by default"),
        ("trace" = Option<bool>, Query, description = "Whether to tell how each item came into the feed")),
    responses((status = 200, body = Feed), (status = 400, body = Failure), (status = 503, body = Failure)))]
pub(crate) async fn get_recommend(
    State(app): State<Shared>,
    Id(user): Id,
    mut params: Params,
) -> Result<Json<Feed>, Reject> {
    let n = params.number("n", 10, MAX_ITEMS)?;
    let trace = params.flag("trace")?;
    let context = params.rest();
    app.compute(move |app| {
        let profile = app.parts.profiles.get(&user);
        let known = is_known(app, &user, profile.as_ref())?;
        let Profile { history, seen } = profile.unwrap_or_default();
        let (request_id, time_ms) = (app.request_id(), asked_at(app.now_ms(), &history));
        let ask = Ask { request_id, user, known, n, time_ms, context, history, seen, trace };
        let ranked = app.engine().recommend(&ask)?;
        observe::feed(ranked.items.len(), ranked.personal);
        observe::channels(&ranked.channels);
        Ok(Json(feed(app, ask, ranked)))
    })
    .await
}

/// When the user asks. A history ends before its request, so one that comes in the very millisecond of an
/// action acknowledged before it counts as asked a millisecond later: the action is part of the past.
fn asked_at(now_ms: i64, history: &[Action]) -> i64 {
    now_ms.saturating_add(i64::from(history.iter().any(|action| action.time_ms == now_ms)))
}

fn is_known(app: &App, user: &str, profile: Option<&Profile>) -> Result<bool, Reject> {
    Ok(profile.is_some() || app.parts.stream.records.users().get(user)?.is_some())
}

fn feed(app: &App, ask: Ask, ranked: Ranked) -> Feed {
    let items = ranked.items.into_iter().take(ask.n).enumerate().map(|(position, item)| FeedItem {
        title: app.title(&item.id),
        id: item.id,
        position: position as u32,
        score: item.score,
        trace: item.trace.filter(|_| ask.trace),
    });
    let items = items.collect();
    let reason = match ranked.reason {
        None if !ranked.personal && !ask.known => {
            Some(format!("user `{}` is not known, so this feed is not personal", ask.user))
        }
        None if !ranked.personal => {
            Some(format!("too little is known of user `{}`, so this feed is not personal", ask.user))
        }
        reason => reason,
    };
    Feed {
        request_id: ask.request_id,
        user: ask.user,
        personal: ranked.personal,
        reason,
        items,
        stages: ask.trace.then_some(ranked.stages),
        channels: ask.trace.then_some(ranked.channels),
    }
}

/// The items nearest to an item.
#[utoipa::path(get, path = "/api/item/{id}/neighbors", tag = "feed",
    params(("id" = String, Path), ("n" = Option<usize>, Query, description = "Items wanted, 1 to 200; 10 by default")),
    responses((status = 200, body = Neighbors), (status = 404, body = Failure)))]
pub(crate) async fn get_neighbors(
    State(app): State<Shared>,
    Id(item): Id,
    mut params: Params,
) -> Result<Json<Neighbors>, Reject> {
    let n = params.number("n", 10, MAX_ITEMS)?;
    params.finish(&["n"])?;
    app.compute(move |app| {
        let Some(found) = app.engine().neighbors(&item, n)? else {
            return Err(Reject::missing(format!("item `{item}` is not known")));
        };
        let neighbor = |s: crate::Scored| Neighbor { title: app.title(&s.id), id: s.id, score: s.score };
        let neighbors = found.into_iter().take(n).map(neighbor).collect();
        Ok(Json(Neighbors { title: app.title(&item), item, neighbors }))
    })
    .await
}

/// What a user did lately, as the next feed will see it.
#[utoipa::path(get, path = "/api/users/{id}/history", tag = "users",
    params(("id" = String, Path), ("n" = Option<usize>, Query, description = "Actions wanted, 1 to 500; 50 by default")),
    responses((status = 200, body = UserHistory)))]
pub(crate) async fn get_history(
    State(app): State<Shared>,
    Id(user): Id,
    mut params: Params,
) -> Result<Json<UserHistory>, Reject> {
    let n = params.number("n", 50, MAX_ACTIONS)?;
    params.finish(&["n"])?;
    app.block(move |app| {
        let profile = app.parts.profiles.get(&user);
        let known = is_known(app, &user, profile.as_ref())?;
        let Profile { history, seen } = profile.unwrap_or_default();
        let actions = history.iter().rev().take(n).map(|a| PastAction {
            item: a.item.to_string(),
            title: app.title(&a.item),
            kind: a.kind.to_string(),
            time_ms: a.time_ms,
            value: a.value,
        });
        let actions = actions.collect();
        Ok(Json(UserHistory { user, known, actions, remembered: history.len(), seen: seen.len() }))
    })
    .await
}
