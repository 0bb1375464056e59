use std::collections::HashSet;

use super::*;

fn config() -> WorldConfig {
    WorldConfig {
        users: 120,
        items: 1_500,
        exposures: 30_000,
        days: 14,
        categories: 12,
        authors: 80,
        drift: 2.0,
        ..WorldConfig::default()
    }
}

fn world() -> World {
    World::new(&config()).unwrap()
}

fn temp(name: &str) -> std::path::PathBuf {
    let dir = std::env::temp_dir().join(format!("synth-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    dir
}

#[test]
fn the_same_seed_gives_the_same_log_and_another_seed_another() {
    let a: Vec<LogEvent> = world().events().collect();
    let b: Vec<LogEvent> = world().events().collect();
    let other = WorldConfig { seed: 2, ..config() };
    let c: Vec<LogEvent> = World::new(&other).unwrap().events().collect();
    assert!(a == b);
    assert!(a != c);
}

#[test]
fn a_longer_log_leaves_the_truth_as_it_is() {
    let (a, longer) = (world(), WorldConfig { exposures: 60_000, ..config() });
    let b = World::new(&longer).unwrap();
    let now = a.end_ms() - 1;
    for (user, item) in [(0, 0), (5, 90), (119, 1_499)] {
        assert_eq!(a.click_probability(user, item, now), b.click_probability(user, item, now));
    }
}

#[test]
fn probabilities_lie_in_the_unit_interval_and_fall_with_the_position() {
    let world = world();
    let now = world.start_ms() + 3 * DAY_MS;
    let mut positive = 0;
    for user in 0..50 {
        for item in (0..1_500).step_by(7) {
            let p = world.click_probability(user, item, now);
            assert!((0.0..=1.0).contains(&p));
            assert_eq!(p > 0.0, world.items()[item as usize].alive(now));
            assert_eq!(world.click_probability_at(user, item, now, 0), p);
            assert!(p == 0.0 || world.click_probability_at(user, item, now, 3) < p);
            positive += usize::from(p > 0.0);
        }
    }
    assert!(positive > 1_000);
}

#[test]
fn scoring_all_items_agrees_with_asking_for_each() {
    let world = world();
    let mut all = vec![0.0; world.items().len()];
    for (user, day) in [(0, 0), (17, 5), (119, 13)] {
        let now = world.start_ms() + day * DAY_MS + 1_234;
        world.score_all(user, now, &mut all);
        for (item, &p) in (0..).zip(&all) {
            assert_eq!(f64::from(p), world.click_probability(user, item, now));
        }
        let mut naive: Vec<(ItemRow, f32)> = (0..).zip(all.iter().copied()).collect();
        naive.retain(|b| b.1 > 0.0 && b.0 % 3 != 0);
        naive.sort_by(|a, b| b.1.total_cmp(&a.1));
        assert_eq!(world.best(user, now, 20, |i| i % 3 != 0), naive[..20]);
    }
}

/// The truth written out as its documentation says it, from the parts that make it.
#[test]
fn the_truth_is_the_documented_equation() {
    let world = world();
    let (t, now) = (&world.config.truth, world.end_ms() - 1);
    for (user, item) in [(1usize, 3usize), (40, 700), (99, 1_200)] {
        let (u, l) = (&world.users.facts[user], &world.users.leanings[user]);
        let i = &world.items.terms[item];
        let v = world.items.vector(item, super::items::stride(16));
        let match_: f32 = world.users.mind(user, now).1.iter().zip(v).map(|(a, b)| a * b).sum();
        let age_days = (now - i.born_ms) as f64 / DAY_MS as f64;
        let logit = f64::from(world.weights.intercept)
            + t.affinity * f64::from(match_)
            + t.quality * f64::from(i.quality)
            + t.kind * f64::from(l.kind[i.kind as usize])
            + t.price * f64::from(l.price * i.price)
            + t.recency * (1.0 - age_days / t.recency_days).max(0.0)
            + if u.region == i.region { t.region } else { 0.0 }
            - if u.language == i.language { 0.0 } else { t.language };
        let got = world.logit(&world.taste(user as u32, now), item as u32);
        assert!((f64::from(got) - logit).abs() < 1e-4, "{got} {logit}");
    }
}

#[test]
fn the_log_clicks_as_often_as_the_truth_says_in_every_decile() {
    let world = world();
    let mut shown: Vec<(f64, bool)> = world
        .exposures()
        .map(|e| {
            let p = world.click_probability_at(e.user, e.item, e.time_ms, e.position);
            (p, e.outcome.click_ms.is_some())
        })
        .collect();
    shown.sort_by(|a, b| a.0.total_cmp(&b.0));
    for decile in shown.chunks(shown.len() / 10) {
        let expected: f64 = decile.iter().map(|d| d.0).sum();
        let clicks = decile.iter().filter(|d| d.1).count() as f64;
        let spread = decile.iter().map(|d| d.0 * (1.0 - d.0)).sum::<f64>().sqrt();
        assert!((clicks - expected).abs() < 4.0 * spread + 1.0, "{clicks} for {expected}");
    }
}

#[test]
fn first_requests_click_at_the_configured_rate() {
    for click_rate in [0.03, 0.12] {
        let crowd = WorldConfig { users: 3_000, exposures: 90_000, click_rate, ..config() };
        let world = World::new(&crowd).unwrap();
        let mut first = vec![u32::MAX; 3_000];
        let (mut sum, mut count) = (0.0, 0.0);
        for e in world.exposures() {
            let request = &mut first[e.user as usize];
            *request = e.request.min(*request);
            if *request == e.request {
                sum += world.click_probability_at(e.user, e.item, e.time_ms, e.position);
                count += 1.0;
            }
        }
        assert!((sum / count / click_rate - 1.0).abs() < 0.1, "{} {click_rate}", sum / count);
    }
}

#[test]
fn impressions_are_exactly_as_many_as_asked_whole_and_of_living_unclicked_items() {
    let ragged = WorldConfig { exposures: 29_993, ..config() };
    let world = World::new(&ragged).unwrap();
    let mut clicked = HashSet::new();
    let mut slate = HashSet::new();
    let (mut last, mut count) = ((0, i64::MIN), 0);
    world.simulate(|e| {
        assert!(world.items()[e.item as usize].alive(e.time_ms));
        assert!(world.users()[e.user as usize].registered_ms <= e.time_ms);
        assert!((world.start_ms()..world.end_ms()).contains(&e.time_ms));
        assert!((e.request, e.time_ms) >= last && e.position < 10);
        if e.request != last.0 {
            assert_eq!((e.position, slate.len()), (0, 10));
            slate.clear();
        }
        assert!(slate.insert(e.item) && !clicked.contains(&(e.user, e.item)));
        if e.outcome.click_ms.is_some() {
            clicked.insert((e.user, e.item));
        }
        last = (e.request, e.time_ms);
        count += 1;
    });
    assert_eq!(count, 29_993);
}

#[test]
fn events_are_in_time_order_and_actions_follow_their_impression_and_click() {
    let world = world();
    let (mut shown, mut clicked, mut carted) = (HashSet::new(), HashSet::new(), HashSet::new());
    let mut last = i64::MIN;
    let mut counts = [0u32; 6];
    for e in world.events() {
        assert!(e.time_ms >= last && e.time_ms < world.end_ms());
        last = e.time_ms;
        counts[e.action as usize] += 1;
        let key = (e.request, e.user, e.item, e.position);
        match e.action {
            Action::Impression => assert!(shown.insert(key)),
            Action::Click => assert!(shown.contains(&key) && clicked.insert(key)),
            Action::Order => assert!(carted.contains(&key)),
            Action::Cart => assert!(clicked.contains(&key) && carted.insert(key)),
            Action::Play => assert!(clicked.contains(&key) && (0.0..=1.0).contains(&e.value)),
            Action::Like => assert!(clicked.contains(&key)),
        }
        let event = world.event(&e);
        assert_eq!(event.kind.as_str(), e.action.as_str());
        assert_eq!(world.user_row(&event.user), Some(e.user));
        assert_eq!(world.item_row(&event.item), Some(e.item));
    }
    assert_eq!(counts[0], 30_000);
    assert!(counts.iter().all(|&c| c > 0), "{counts:?}");
}

#[test]
fn drift_changes_what_a_user_likes_and_only_at_a_switch() {
    let world = world();
    let (user, switch) = (0..120).find_map(|u| Some((u, world.switches(u).next()?))).unwrap();
    assert_eq!(world.interests(user, switch - 1), world.interests(user, world.start_ms()));
    assert_ne!(world.interests(user, switch - 1), world.interests(user, switch));
    let affinity = |time, item| world.affinity(&world.taste(user, time), item);
    let moved = (0..1_500).filter(|&i| (affinity(switch, i) - affinity(switch - 1, i)).abs() > 0.05);
    assert!(moved.count() > 300);
    let still = World::new(&WorldConfig { drift: 0.0, ..config() }).unwrap();
    assert!((0..120).all(|u| still.switches(u).next().is_none()));
}

#[test]
fn an_oracle_beats_popularity_and_popularity_beats_chance() {
    let world = world();
    let now = world.end_ms() - 1;
    let mut clicks = vec![0u32; world.items().len()];
    world.simulate(|e| clicks[e.item as usize] += u32::from(e.outcome.click_ms.is_some()));
    let mut hot: Vec<ItemRow> = (0..1_500).filter(|&i| world.items()[i as usize].alive(now)).collect();
    let (mut oracle, mut popular, mut chance) = (0.0, 0.0, 0.0);
    let alive = hot.clone();
    hot.sort_by_key(|&i| std::cmp::Reverse(clicks[i as usize]));
    for user in 0..120 {
        let mean = |list: &[ItemRow]| {
            let sum: f64 = list.iter().map(|&i| world.click_probability(user, i, now)).sum();
            sum / list.len() as f64
        };
        let best: Vec<ItemRow> = world.best(user, now, 10, |_| true).iter().map(|b| b.0).collect();
        oracle += mean(&best) / 120.0;
        popular += mean(&hot[..10]) / 120.0;
        chance += mean(&alive) / 120.0;
    }
    assert!(oracle > 2.0 * popular && popular > 1.3 * chance, "{oracle} {popular} {chance}");
}

#[test]
fn a_world_written_to_a_folder_is_rebuilt_from_it() {
    let world = World::new(&WorldConfig { exposures: 3_000, ..config() }).unwrap();
    let dir = temp("roundtrip");
    let mut told = 0;
    let written = write_world(&world, &dir, FileFormat::Csv, &mut |n| told = n).unwrap();
    assert_eq!(told, written.event_rows);
    let text = std::fs::read_to_string(&written.events).unwrap();
    let mut lines = text.lines();
    let header = "time_ms,user_id,item_id,event,value,request_id,position";
    assert_eq!(lines.next(), Some(header));
    for (line, e) in lines.by_ref().zip(world.events()) {
        let e = world.event(&e);
        let cells: Vec<&str> = line.split(',').collect();
        let texts = [e.time_ms.to_string(), e.user, e.item, e.kind.as_str().to_owned()];
        assert_eq!(cells[..4], texts);
        assert!((cells[4].parse::<f32>().unwrap() - e.value).abs() < 1e-4);
        assert_eq!((cells[5], cells[6]), (e.request.as_deref().unwrap(), &*e.position.unwrap().to_string()));
    }
    assert_eq!(text.lines().count() as u64, 1 + written.event_rows);
    let items = std::fs::read_to_string(&written.items).unwrap();
    assert!(items.lines().all(|l| l.split(',').count() == 10));
    assert_eq!(items.lines().count(), 1_501);
    let again = World::open(&dir).unwrap();
    assert_eq!(again.config(), world.config());
    let now = world.end_ms() - 1;
    assert_eq!(again.best(3, now, 50, |_| true), world.best(3, now, 50, |_| true));
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn compressed_tables_hold_the_same_text() {
    use std::io::Read;
    let world = World::new(&WorldConfig { exposures: 500, ..config() }).unwrap();
    let dir = temp("formats");
    let mut text = Vec::new();
    for format in [FileFormat::Csv, FileFormat::CsvGz, FileFormat::CsvZst] {
        let written = write_world(&world, &dir, format, &mut |_| ()).unwrap();
        let bytes = std::fs::read(&written.events).unwrap();
        let mut plain = Vec::new();
        match format {
            FileFormat::Csv => plain = bytes,
            FileFormat::CsvGz => {
                flate2::read::GzDecoder::new(&bytes[..]).read_to_end(&mut plain).unwrap();
            }
            FileFormat::CsvZst => plain = zstd::decode_all(&bytes[..]).unwrap(),
        }
        text.push(plain);
    }
    assert!(text[0] == text[1] && text[1] == text[2] && text[0].len() > 20_000);
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn ids_that_are_not_of_this_world_have_no_row() {
    let world = world();
    assert_eq!(world.user_row("u000119"), Some(119));
    for id in ["", "u", "u000120", "u119", "i000001", "ü00001", "u+00001", "u0000119"] {
        assert_eq!(world.user_row(id), None, "{id}");
    }
    assert_eq!(world.item_row("i0001499"), Some(1_499));
}

#[test]
fn titles_of_one_topic_share_words_and_others_do_not() {
    let world = world();
    let words =
        |i: usize| -> HashSet<String> { world.title(i as u32).split(' ').map(str::to_owned).collect() };
    let (mut same, mut other) = ((0, 0), (0, 0));
    for i in 0..300 {
        for j in 0..i {
            let (a, b) = (&world.items()[i], &world.items()[j]);
            let shared = usize::from(!words(i).is_disjoint(&words(j)));
            if (a.category, a.topic) == (b.category, b.topic) {
                same = (same.0 + shared, same.1 + 1);
            } else if a.category != b.category {
                other = (other.0 + shared, other.1 + 1);
            }
        }
    }
    let rate = |(hits, all): (usize, usize)| hits as f64 / all as f64;
    assert!(rate(same) > 0.3 && rate(other) < 0.05, "{} {}", rate(same), rate(other));
}

#[test]
fn bad_configurations_are_refused_by_key() {
    let told = |text: &str| WorldConfig::from_toml(text, "w.toml").unwrap_err().to_string();
    for (text, word) in [
        ("users = 0", "`users` is 0, expected 1 to"),
        ("items = 10", "`items` is 10, expected 40 to"),
        ("click_rate = 0.9", "`click_rate`"),
        ("mean_life_days = nan", "`mean_life_days` is NaN"),
        ("[policy]\nrandom = 0.9", "`policy`"),
        ("[policy]\nrandom = 1.9", "`policy.random`"),
        ("[truth]\nafinity = 1.0", "`truth.affinity`"),
        ("[truth]\nprice = -1.0", "`truth.price`"),
        ("itmes = 10", "did you mean `items`"),
        ("days = 3\nusers = 'many'", "w.toml: line 2"),
        ("users = ", "w.toml: line 1"),
    ] {
        let message = told(text);
        assert!(message.contains(word), "{text:?} gave {message}");
        assert_eq!(message.lines().count(), 1);
    }
    let text = config().to_toml().unwrap();
    assert_eq!(WorldConfig::from_toml(&text, "w.toml").unwrap(), config());
}

#[test]
fn a_folder_without_a_world_or_of_another_generator_is_told_so() {
    let dir = temp("foreign");
    let told = |dir: &std::path::Path| World::open(dir).err().unwrap().to_string();
    assert!(told(&dir).contains("world.toml"));
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("world.toml"), "generator = 99\n[world]\nseed = 1\n").unwrap();
    assert!(told(&dir).contains("generator 99"));
    std::fs::write(dir.join("world.toml"), "hello").unwrap();
    assert!(told(&dir).contains("world.toml"));
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn tiny_and_extreme_worlds_work() {
    let tiny = WorldConfig {
        users: 1,
        items: 40,
        exposures: 777,
        days: 1,
        latent: 2,
        categories: 1,
        topics: 1,
        authors: 1,
        regions: 1,
        languages: 1,
        interests: 1,
        drift: 100.0,
        mean_life_days: 0.01,
        born_during: 1.0,
        ..WorldConfig::default()
    };
    let world = World::new(&tiny).unwrap();
    assert_eq!(world.exposures().count(), 777);
}

#[test]
fn a_world_that_cannot_be_written_leaves_the_earlier_one_whole() {
    let dir = temp("unwritable");
    let write = |seed: u64| {
        let world = World::new(&WorldConfig { exposures: 1_000, seed, ..config() }).unwrap();
        write_world(&world, &dir, FileFormat::Csv, &mut |_| ())
    };
    let files = || {
        let read = |name: &str| std::fs::read(dir.join(name)).unwrap();
        ["users.csv", "items.csv", "events.csv", "world.toml"].map(read)
    };
    write(1).unwrap();
    let before = files();
    // The last of the drafts cannot be made.
    let obstacle = dir.join("world.toml.tmp");
    std::fs::create_dir(&obstacle).unwrap();
    assert!(write(2).unwrap_err().to_string().contains("world.toml"));
    assert!(files() == before && std::fs::read_dir(&dir).unwrap().count() == 5);
    std::fs::remove_dir(&obstacle).unwrap();
    write(2).unwrap();
    assert!(files() != before);
    std::fs::remove_dir_all(&dir).unwrap();
}
