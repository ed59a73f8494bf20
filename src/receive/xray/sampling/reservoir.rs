//! Each client's share of a rule's reservoir.
//!
//! A client asks every ten seconds and is given a quota, requests a second, until a stated time. Its fair share is the
//! reservoir divided by the clients heard of lately; what is left over goes round, one unit to whoever has waited longest, so that
//! of more clients than units each has its turn. It gets as much of that as
//! the others' quotas leave while they run: all quotas that hold at one time never exceed the reservoir. Who comes anew
//! while others hold all of it therefore gets nothing at first, and its fair share when the others have asked again.
//!
//! In memory only; after a restart clients ask again before theirs run out, and for that long the sum may be exceeded.

use std::collections::{BTreeMap, HashMap};

use parking_lot::Mutex;

/// How often clients ask, and how long a quota is good for.
pub(super) const INTERVAL_SECONDS: i64 = 10;
/// A client not heard of for so long has no share: it was due once, and is late.
pub(super) const CLIENT_NANOS: i64 = 2 * INTERVAL_SECONDS * NANOS_A_SECOND;
/// Clients of one rule that are remembered; further ones get no share, only the fixed rate.
pub(super) const MAX_CLIENTS: usize = 10_000;
const NANOS_A_SECOND: i64 = 1_000_000_000;

/// What a client was told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quota {
    /// Requests a second.
    pub(super) per_second: u32,
    /// Seconds since the epoch at which it runs out.
    pub(super) until_seconds: i64,
    heard_nanos: i64,
    /// Whether one unit is of what is left over.
    has_extra: bool,
    /// When it had such a unit last; the least, if never.
    extra_nanos: i64,
}

/// The quotas that hold, by rule and client.
#[derive(Debug, Default)]
pub(super) struct Reservoirs(Mutex<HashMap<String, BTreeMap<String, Quota>>>);

impl Reservoirs {
    /// Gives a client its quota of a rule's reservoir.
    pub(super) fn share(&self, rule: &str, reservoir_size: u32, client: &str, now_nanos: i64) -> Quota {
        let now_seconds = now_nanos.div_euclid(NANOS_A_SECOND);
        let quota = |per_second| Quota {
            per_second,
            until_seconds: now_seconds + INTERVAL_SECONDS,
            heard_nanos: now_nanos,
            has_extra: false,
            extra_nanos: i64::MIN,
        };
        let mut rules = self.0.lock();
        let clients = rules.entry(rule.to_string()).or_default();
        clients.retain(|_, known| now_nanos.saturating_sub(known.heard_nanos) <= CLIENT_NANOS);
        if clients.len() >= MAX_CLIENTS && !clients.contains_key(client) {
            return quota(0);
        }
        // what it had before, it has no longer
        let extra_nanos = clients.get(client).map_or(i64::MIN, |before| before.extra_nanos);
        clients.insert(client.to_string(), Quota { extra_nanos, ..quota(0) });
        let n_clients = u32::try_from(clients.len()).unwrap_or(u32::MAX);
        let (fair, left_over) = (reservoir_size / n_clients, (reservoir_size % n_clients) as usize);
        let of_others = clients.values().filter(|known| known.until_seconds > now_seconds);
        let (mut held, mut extras) = (0u32, 0);
        for known in of_others {
            held = held.saturating_add(known.per_second);
            extras += usize::from(known.has_extra);
        }
        let waited_longer = clients
            .iter()
            .filter(|(other, known)| (known.extra_nanos, other.as_str()) < (extra_nanos, client));
        let is_its_turn = extras < left_over && waited_longer.count() < left_over;
        let per_second = (fair + u32::from(is_its_turn)).min(reservoir_size.saturating_sub(held));
        let has_extra = per_second > fair;
        let given = Quota {
            has_extra,
            extra_nanos: if has_extra { now_nanos } else { extra_nanos },
            ..quota(per_second)
        };
        clients.insert(client.to_string(), given);
        given
    }

    /// Forgets the clients of a rule that is gone.
    pub(super) fn forget(&self, rule: &str) {
        self.0.lock().remove(rule);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_795_000_000 * NANOS_A_SECOND;
    const LATER: i64 = INTERVAL_SECONDS * NANOS_A_SECOND;

    fn quotas(reservoirs: &Reservoirs, size: u32, clients: std::ops::Range<usize>, now: i64) -> Vec<u32> {
        let share = |client| reservoirs.share("api", size, &format!("{client:024x}"), now).per_second;
        clients.map(share).collect()
    }

    /// All that holds.
    fn held(reservoirs: &Reservoirs, now: i64) -> u32 {
        let rules = reservoirs.0.lock();
        let clients = rules["api"].values();
        clients
            .filter(|quota| quota.until_seconds > now / NANOS_A_SECOND)
            .map(|quota| quota.per_second)
            .sum()
    }

    #[test]
    fn the_reservoir_is_shared_fairly_once_all_have_asked() {
        let reservoirs = Reservoirs::default();
        assert_eq!(quotas(&reservoirs, 10, 0..1, NOW), [10], "alone");
        assert_eq!(quotas(&reservoirs, 10, 1..4, NOW), [0, 0, 0], "one holds it all");
        assert_eq!(quotas(&reservoirs, 10, 0..4, NOW + 1), [3, 3, 2, 2]);
        assert_eq!(quotas(&reservoirs, 10, 3..4, NOW + CLIENT_NANOS + 2), [10], "the others have gone");
        assert_eq!(quotas(&reservoirs, 10, 0..20, NOW + CLIENT_NANOS + LATER + 3).iter().sum::<u32>(), 10);
        assert_eq!(quotas(&reservoirs, 0, 0..2, NOW), [0, 0]);
    }

    #[test]
    fn of_more_clients_than_units_each_has_its_turn() {
        let reservoirs = Reservoirs::default();
        let mut had = [0; 20];
        // each asks every ten seconds, at a second of its own
        for round in 0..100 {
            for (client, had) in had.iter_mut().enumerate() {
                let now = NOW + round * LATER + client as i64 * LATER / 20;
                *had += quotas(&reservoirs, 3, client..client + 1, now)[0];
                assert!(held(&reservoirs, now) <= 3);
            }
        }
        let (least, most) = (had.iter().min(), had.iter().max());
        assert!(least >= Some(&8) && most <= Some(&20), "{had:?}");
        assert!(had.iter().sum::<u32>() >= 200, "most of 300 are given: {had:?}");
    }

    #[test]
    fn quotas_that_hold_at_one_time_never_exceed_the_reservoir() {
        let reservoirs = Reservoirs::default();
        // a linear congruential sequence: clients come, go and come again at odd times
        let mut state = 7u64;
        let mut next = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let mut now = NOW;
        for _ in 0..2_000 {
            now += next(3_000_000_000) as i64;
            let client = next(12) as usize;
            quotas(&reservoirs, 10, client..client + 1, now);
            assert!(held(&reservoirs, now) <= 10, "{reservoirs:?}");
        }
    }

    #[test]
    fn clients_beyond_the_bound_are_not_remembered() {
        let reservoirs = Reservoirs::default();
        let heard = |client: usize| {
            let quota = Quota {
                per_second: 0,
                until_seconds: NOW / NANOS_A_SECOND,
                heard_nanos: NOW,
                has_extra: false,
                extra_nanos: i64::MIN,
            };
            (format!("{client:024x}"), quota)
        };
        reservoirs.0.lock().insert("api".into(), (0..MAX_CLIENTS).map(heard).collect());
        assert_eq!(quotas(&reservoirs, 1_000_000, MAX_CLIENTS..MAX_CLIENTS + 1, NOW), [0]);
        assert_eq!(quotas(&reservoirs, 1_000_000, 5..6, NOW), [100]);
        reservoirs.forget("api");
        assert_eq!(quotas(&reservoirs, 100, 5..6, NOW), [100]);
    }
}
