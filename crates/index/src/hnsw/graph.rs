use crate::error::Result;
use crate::file::{Payload, Writer};

/// Levels above the ground; with 2⁻⁴ of the nodes per level this is never reached by chance.
pub(super) const MAX_LEVEL: u8 = 15;

const NONE: u32 = u32::MAX;

/// Who is linked to whom, level by level. A node of level `l` has links on levels `0..=l`.
#[derive(Debug, Clone)]
pub(super) struct Graph {
    /// Most links per node above the ground; twice as many on it.
    m: usize,
    /// Per node a count and room for `2m` links.
    ground: Vec<u32>,
    /// Per node and level above the ground a count and room for `m` links.
    upper: Vec<u32>,
    /// Where a node's part of `upper` starts.
    upper_at: Vec<usize>,
    levels: Vec<u8>,
    pub(super) entry: Option<u32>,
}

impl Graph {
    pub(super) fn new(m: usize) -> Self {
        let (ground, upper, upper_at, levels) = Default::default();
        Self { m, ground, upper, upper_at, levels, entry: None }
    }

    pub(super) fn len(&self) -> usize {
        self.levels.len()
    }

    pub(super) fn level(&self, node: u32) -> u8 {
        self.levels[node as usize]
    }

    /// Most links on a level.
    pub(super) fn cap(&self, level: u8) -> usize {
        if level == 0 { 2 * self.m } else { self.m }
    }

    /// Adds a node without links; it gets the next number.
    pub(super) fn add(&mut self, level: u8) {
        self.ground.resize(self.ground.len() + 2 * self.m + 1, 0);
        self.upper_at.push(self.upper.len());
        self.upper.resize(self.upper.len() + usize::from(level) * (self.m + 1), 0);
        self.levels.push(level);
    }

    /// The node's part on a level: a count, then room for links.
    #[inline]
    fn part(&self, node: u32, level: u8) -> &[u32] {
        if level == 0 {
            let stride = 2 * self.m + 1;
            return &self.ground[node as usize * stride..][..stride];
        }
        let stride = self.m + 1;
        &self.upper[self.upper_at[node as usize] + usize::from(level - 1) * stride..][..stride]
    }

    fn part_mut(&mut self, node: u32, level: u8) -> &mut [u32] {
        if level == 0 {
            let stride = 2 * self.m + 1;
            return &mut self.ground[node as usize * stride..][..stride];
        }
        let stride = self.m + 1;
        &mut self.upper[self.upper_at[node as usize] + usize::from(level - 1) * stride..][..stride]
    }

    #[inline]
    pub(super) fn links(&self, node: u32, level: u8) -> &[u32] {
        let part = self.part(node, level);
        &part[1..][..part[0] as usize]
    }

    /// `links` must not exceed the cap of the level.
    pub(super) fn set_links(&mut self, node: u32, level: u8, links: &[u32]) {
        let part = self.part_mut(node, level);
        part[0] = links.len() as u32;
        part[1..][..links.len()].copy_from_slice(links);
    }

    /// Adds a link if there is room; `false` when there is none.
    pub(super) fn try_link(&mut self, node: u32, level: u8, to: u32) -> bool {
        let part = self.part_mut(node, level);
        let count = part[0] as usize;
        if count + 1 >= part.len() {
            return false;
        }
        part[count + 1] = to;
        part[0] += 1;
        true
    }

    pub(super) fn unlink_all(&mut self, node: u32) {
        for level in 0..=self.level(node) {
            self.set_links(node, level, &[]);
        }
    }

    /// The highest of the nodes that `allowed` accepts, the first of equals.
    pub(super) fn highest(&self, allowed: impl Fn(u32) -> bool) -> Option<u32> {
        (0..self.len() as u32)
            .filter(|&node| allowed(node))
            .max_by_key(|&node| (self.level(node), std::cmp::Reverse(node)))
    }

    pub(super) fn write(&self, out: &mut Writer) {
        out.u32(self.entry.unwrap_or(NONE));
        out.u32s(&self.levels.iter().map(|&level| u32::from(level)).collect::<Vec<_>>());
        out.u32s(&self.ground);
        out.u32s(&self.upper);
    }

    pub(super) fn read(from: &mut Payload<'_>, m: usize) -> Result<Self> {
        let entry = from.u32()?;
        let mut graph = Self::new(m);
        let mut at = 0;
        for level in from.u32s()? {
            let level = u8::try_from(level).ok().filter(|&level| level <= MAX_LEVEL);
            let level = level.ok_or_else(|| from.flaw("a node has no such level"))?;
            graph.levels.push(level);
            graph.upper_at.push(at);
            at += usize::from(level) * (m + 1);
        }
        graph.ground = from.u32s()?;
        graph.upper = from.u32s()?;
        if graph.ground.len() != graph.len() * (2 * m + 1) || graph.upper.len() != at {
            return Err(from.flaw("the links do not match the nodes"));
        }
        graph.entry = (entry != NONE).then_some(entry);
        if graph.entry.is_some_and(|entry| entry as usize >= graph.len()) || !graph.is_sound() {
            return Err(from.flaw("a link leads nowhere"));
        }
        Ok(graph)
    }

    /// Whether every count fits and every link leads to a node of that level.
    fn is_sound(&self) -> bool {
        (0..self.len() as u32).all(|node| {
            (0..=self.level(node)).all(|level| {
                let part = self.part(node, level);
                let sound = |&to: &u32| self.levels.get(to as usize).is_some_and(|&found| found >= level);
                part[1..].get(..part[0] as usize).is_some_and(|links| links.iter().all(sound))
            })
        })
    }
}

/// The level of an item: 0 for most, each next level for one in `m`. It depends on seed and item
/// alone, so neither order of insertion nor removals change it.
pub(super) fn level_of(seed: u64, item: u32, m: usize) -> u8 {
    let x = (seed ^ u64::from(item).wrapping_mul(0xd6e8_feb8_6659_fd93)).wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let uniform = (((x ^ (x >> 31)) >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    (-uniform.ln() / (m as f64).ln()).min(f64::from(MAX_LEVEL)) as u8
}
