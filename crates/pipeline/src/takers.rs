//! Who took what, by user and by item: what user-based collaborative filtering goes over at each request.

use millstream_schema::{ItemRow, UserRow};
use rapidhash::{RapidHashMap, RapidHashSet};

use crate::Error;

/// The distinct items of every user and the users of every item, both latest first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Takers {
    items: Lists,
    users: Lists,
}

/// Rows of rows.
#[derive(Debug, Clone, Default, PartialEq)]
struct Lists {
    /// `[rows + 1]`, from 0.
    offsets: Vec<usize>,
    members: Vec<u32>,
}

impl Lists {
    fn row(&self, row: u32) -> &[u32] {
        match self.offsets.get(row as usize..row as usize + 2) {
            Some(span) => &self.members[span[0]..span[1]],
            None => &[],
        }
    }

    /// Of pairs (row, member), in this order within each row.
    fn of(rows: usize, pairs: &[(u32, u32)]) -> Self {
        let mut offsets = vec![0usize; rows + 1];
        pairs.iter().for_each(|p| offsets[p.0 as usize + 1] += 1);
        for row in 0..rows {
            offsets[row + 1] += offsets[row];
        }
        let (mut next, mut members) = (offsets.clone(), vec![0; pairs.len()]);
        for &(row, member) in pairs {
            members[next[row as usize]] = member;
            next[row as usize] += 1;
        }
        Self { offsets, members }
    }
}

/// How neighbours are chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Neighbourhood {
    /// Users most like this one that count.
    pub neighbours: usize,
    /// Latest users of an item that are looked at.
    pub max_takers: usize,
    /// Latest items of a neighbour that are looked at.
    pub max_items: usize,
}

impl Takers {
    /// Actions as (user, item, epoch milliseconds) in any order, repeats counting once, at their latest time.
    ///
    /// # Errors
    /// A row is not below its number.
    pub fn new(users: usize, items: usize, actions: &[(UserRow, ItemRow, i64)]) -> Result<Self, Error> {
        Ok(LiveTakers::new(users, items, actions)?.takers())
    }

    /// Distinct items of a user, latest first.
    pub fn items(&self, user: UserRow) -> &[ItemRow] {
        self.items.row(user)
    }

    /// Distinct users of an item, latest first.
    pub fn users(&self, item: ItemRow) -> &[UserRow] {
        self.users.row(item)
    }

    /// The users most like a weighted history of distinct items, but for `own`, most alike first, ties by row:
    ///
    /// ```text
    /// s(u) = Σ_{a in history, u ∈ U_a} w_a / ln(1 + |U_a|) / √|I_u|
    /// ```
    /// the cosine of user-based collaborative filtering, but for the history's own norm, with items that all take
    /// damped (inverse user frequency, Breese et al., UAI 1998).
    pub fn like(&self, history: &[(ItemRow, f32)], own: UserRow, how: &Neighbourhood) -> Vec<(UserRow, f32)> {
        let mut sums: RapidHashMap<UserRow, f32> = RapidHashMap::default();
        for &(item, weight) in history {
            let users = self.users(item);
            let worth = weight / (users.len() as f32).ln_1p();
            for &user in users.iter().take(how.max_takers).filter(|u| **u != own) {
                *sums.entry(user).or_default() += worth;
            }
        }
        let alike = |(user, sum): (UserRow, f32)| (user, sum / (self.items(user).len() as f32).sqrt());
        best(sums.into_iter().map(alike).collect(), how.neighbours)
    }

    /// Items of the users like a history, each with the sum of its users' likeness, best first, ties by row.
    pub fn recommend(
        &self,
        (history, own): (&[(ItemRow, f32)], UserRow),
        how: &Neighbourhood,
        k: usize,
        keep: &dyn Fn(ItemRow) -> bool,
    ) -> Vec<(ItemRow, f32)> {
        let mut sums: RapidHashMap<ItemRow, f32> = RapidHashMap::default();
        for (user, likeness) in self.like(history, own, how) {
            for &item in self.items(user).iter().take(how.max_items) {
                *sums.entry(item).or_default() += likeness;
            }
        }
        best(sums.into_iter().filter(|x| x.1 > 0.0 && keep(x.0)).collect(), k)
    }
}

/// Lists of who took what that follow events: 16 bytes per distinct pair besides the lists.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LiveTakers {
    users: usize,
    items: usize,
    /// Distinct pairs at their latest time, latest first, ties by user and item.
    pairs: Vec<Action>,
}

/// (user, item, epoch milliseconds).
type Action = (UserRow, ItemRow, i64);

impl LiveTakers {
    /// As [`Takers::new`].
    ///
    /// # Errors
    /// As there.
    pub fn new(users: usize, items: usize, actions: &[Action]) -> Result<Self, Error> {
        if actions.iter().any(|a| a.0 as usize >= users || a.1 as usize >= items) {
            return Err(Error::Part("an action names a user or an item that there is not".into()));
        }
        Ok(Self { users, items, pairs: in_order(latest(actions)) })
    }

    /// Takes the actions of some users out, then further actions in, of known and of new users and items; what comes of it is what
    /// [`LiveTakers::new`] makes of all that are left. Costs O(all pairs).
    pub fn follow(&mut self, forgotten: &[UserRow], actions: &[Action]) {
        let mut fresh = latest(actions);
        self.users = fresh.keys().map(|k| k.0 as usize + 1).fold(self.users, usize::max);
        self.items = fresh.keys().map(|k| k.1 as usize + 1).fold(self.items, usize::max);
        let forgotten: RapidHashSet<UserRow> = forgotten.iter().copied().collect();
        self.pairs.retain(|&(user, item, time)| {
            if forgotten.contains(&user) {
                return false;
            }
            // Of the two the later one stays.
            match fresh.get(&(user, item)).copied() {
                Some(newer) if newer > time => false,
                Some(_) => fresh.remove(&(user, item)).is_some(),
                None => true,
            }
        });
        let (old, new) = (std::mem::take(&mut self.pairs), in_order(fresh));
        self.pairs.reserve_exact(old.len() + new.len());
        let (mut old, mut new) = (old.into_iter().peekable(), new.into_iter().peekable());
        while let (Some(a), Some(b)) = (old.peek(), new.peek()) {
            let next = if place(a) <= place(b) { old.next() } else { new.next() };
            self.pairs.extend(next);
        }
        self.pairs.extend(old.chain(new));
    }

    /// The lists as they are now.
    pub fn takers(&self) -> Takers {
        let by_user: Vec<(u32, u32)> = self.pairs.iter().map(|a| (a.0, a.1)).collect();
        let items = Lists::of(self.users, &by_user);
        let by_item: Vec<(u32, u32)> = by_user.into_iter().map(|(user, item)| (item, user)).collect();
        Takers { items, users: Lists::of(self.items, &by_item) }
    }
}

/// The latest time of each pair.
fn latest(actions: &[Action]) -> RapidHashMap<(UserRow, ItemRow), i64> {
    let mut latest: RapidHashMap<(UserRow, ItemRow), i64> = RapidHashMap::default();
    for &(user, item, time) in actions {
        let held = latest.entry((user, item)).or_insert(time);
        *held = time.max(*held);
    }
    latest
}

fn place(a: &Action) -> (std::cmp::Reverse<i64>, UserRow, ItemRow) {
    (std::cmp::Reverse(a.2), a.0, a.1)
}

fn in_order(pairs: RapidHashMap<(UserRow, ItemRow), i64>) -> Vec<Action> {
    let mut all: Vec<Action> = pairs.into_iter().map(|((user, item), time)| (user, item, time)).collect();
    all.sort_unstable_by_key(place);
    all
}

/// The `k` highest, ties by row.
fn best(mut all: Vec<(u32, f32)>, k: usize) -> Vec<(u32, f32)> {
    all.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    all.truncate(k);
    all
}
