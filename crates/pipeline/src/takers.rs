//! Who took what, by user and by item: what user-based collaborative filtering goes over at each request.

use millstream_schema::{ItemRow, UserRow};
use rapidhash::RapidHashMap;

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
        if actions.iter().any(|a| a.0 as usize >= users || a.1 as usize >= items) {
            return Err(Error::Part("an action names a user or an item that there is not".into()));
        }
        let mut latest: RapidHashMap<(UserRow, ItemRow), i64> = RapidHashMap::default();
        for &(user, item, time) in actions {
            let held = latest.entry((user, item)).or_insert(time);
            *held = time.max(*held);
        }
        let mut all: Vec<_> = latest.into_iter().map(|((user, item), time)| (time, user, item)).collect();
        all.sort_unstable_by(|a, b| b.0.cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
        let by_user: Vec<(u32, u32)> = all.iter().map(|a| (a.1, a.2)).collect();
        let by_item: Vec<(u32, u32)> = all.iter().map(|a| (a.2, a.1)).collect();
        Ok(Self { items: Lists::of(users, &by_user), users: Lists::of(items, &by_item) })
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

/// The `k` highest, ties by row.
fn best(mut all: Vec<(u32, f32)>, k: usize) -> Vec<(u32, f32)> {
    all.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    all.truncate(k);
    all
}
