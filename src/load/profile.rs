//! The profiles: how many connections there are and how much each of them sends, over time. Pure: nothing here knows a clock.

use serde::{Deserialize, Serialize};

use super::request::Kind;

/// A workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// 25 connections, 100 messages a second each, for 300 s.
    Baseline,
    /// From 0 to 500 connections over 300 s, which then stay for 180 s; 120 s of cooling. 50 messages a second each.
    Flood,
    /// 30 s at 200 messages a second, 300 s at 150,000, 90 s of cooling, over 64 connections.
    Bomb,
    /// 5,000 connections for two hours.
    Hold,
    /// A rate that grows until it is 200,000 messages a second: where the peak is.
    Ramp,
    /// 64 connections that send 10,000 messages a second for 60 s.
    Mixed,
}

impl Profile {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::Flood => "flood",
            Self::Bomb => "bomb",
            Self::Hold => "hold",
            Self::Ramp => "ramp",
            Self::Mixed => "mixed",
        }
    }

    /// What it sends unless told otherwise. The original bombed with pings; where there is no ping, its nearest is sent: see [`Kind::nearest`].
    #[must_use]
    pub const fn kinds(self) -> &'static [Kind] {
        match self {
            Self::Baseline | Self::Flood | Self::Mixed => &[Kind::ToolsCall, Kind::ResourcesList, Kind::ResourcesRead],
            Self::Bomb | Self::Hold => &[Kind::Ping],
            Self::Ramp => &[Kind::ToolsCall],
        }
    }

    /// Requests of one connection that may be on their way at once, unless told otherwise.
    #[must_use]
    pub const fn pipeline(self) -> usize {
        match self {
            Self::Bomb | Self::Ramp => 1024,
            _ => 64,
        }
    }
}

/// What the flags say of a profile.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wishes {
    /// Messages a second of all connections together, at the highest.
    pub rate: Option<f64>,
    /// Connections, at the most.
    pub connections: Option<usize>,
    /// How long it takes altogether, seconds: each phase becomes longer or shorter by the same factor.
    pub seconds: Option<f64>,
    /// By which all durations are multiplied.
    pub time_scale: f64,
}

/// What a phase is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Little is asked: what latency is when nothing is wrong.
    Warm,
    /// More and more is asked.
    Rise,
    /// Most is asked.
    Peak,
    /// Little is asked again: how long it takes until latency is as it was.
    Cool,
}

impl Stage {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Warm => "warm",
            Self::Rise => "rise",
            Self::Peak => "peak",
            Self::Cool => "cool",
        }
    }
}

/// A time in which connections and rate are constant, or change linearly.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Phase {
    /// What it is for.
    pub stage: Stage,
    /// How long it takes.
    pub seconds: f64,
    /// Connections when it begins and when it ends.
    pub connections: (f64, f64),
    /// Messages a second of each connection when it begins and when it ends.
    pub rate: (f64, f64),
}

/// A part of the run that the timeline table shows as one row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mark {
    /// What the row is called.
    pub label: String,
    /// Where it begins, seconds.
    pub from_s: f64,
    /// Where it ends.
    pub to_s: f64,
}

/// A workload over time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shape {
    /// Phases, one behind the other. There is one at least.
    pub phases: Vec<Phase>,
    /// Rows of the timeline table.
    pub marks: Vec<Mark>,
}

/// Connections that go on when the flood recedes: those of its first row.
const FLOOD_COOL_CONNECTIONS: f64 = 5.0;
/// Connections at which the flood has a row, of 500.
const FLOOD_ROWS: [f64; 7] = [5.0, 50.0, 100.0, 200.0, 250.0, 350.0, 500.0];
/// Seconds of bombing at which it has a row, of 300.
const BOMB_ROWS: [f64; 7] = [0.0, 30.0, 60.0, 90.0, 120.0, 150.0, 250.0];
const BOMB_SECONDS: (f64, f64, f64) = (30.0, 300.0, 90.0);
const FLOOD_SECONDS: (f64, f64, f64) = (300.0, 180.0, 120.0);
const BOMB_WARM_RATE: f64 = 200.0;

impl Shape {
    /// The profile with what is wished for.
    #[must_use]
    pub fn of(profile: Profile, wishes: &Wishes) -> Self {
        let (connections, rate, seconds) = match profile {
            Profile::Baseline => (25, 2_500.0, 300.0),
            Profile::Flood => (500, 25_000.0, 600.0),
            Profile::Bomb => (64, 150_000.0, 420.0),
            Profile::Hold => (5_000, 5_000.0, 7_200.0),
            Profile::Ramp => (64, 200_000.0, 60.0),
            Profile::Mixed => (64, 10_000.0, 60.0),
        };
        let connections = wishes.connections.unwrap_or(connections) as f64;
        // The rate of baseline, flood and hold is each connection's: more connections send more.
        let per_connection = match (wishes.rate, profile) {
            (Some(rate), _) => rate / connections,
            (None, Profile::Baseline) => 100.0,
            (None, Profile::Flood) => 50.0,
            (None, Profile::Hold) => 1.0,
            (None, _) => rate / connections,
        };
        let scale = wishes.seconds.map_or(1.0, |wished| wished / seconds) * wishes.time_scale;
        let phase = |stage, seconds: f64, connections, rate| Phase { stage, seconds: seconds * scale, connections, rate };
        let all = (connections, connections);
        let steady = (per_connection, per_connection);
        let mut shape = Self { phases: Vec::new(), marks: Vec::new() };
        match profile {
            Profile::Baseline | Profile::Hold | Profile::Mixed => {
                shape.phases = vec![phase(Stage::Peak, seconds, all, steady)];
                shape.mark_evenly(10);
            }
            Profile::Ramp => {
                shape.phases = vec![phase(Stage::Rise, seconds, all, (per_connection / 100.0, per_connection))];
                shape.mark_evenly(20);
            }
            Profile::Flood => {
                let (rise, hold, cool) = FLOOD_SECONDS;
                let left = FLOOD_COOL_CONNECTIONS.min(connections);
                shape.phases = vec![
                    phase(Stage::Rise, rise, (0.0, connections), steady),
                    phase(Stage::Peak, hold, all, steady),
                    phase(Stage::Cool, cool, (left, left), steady),
                ];
                shape.mark_flood(connections);
            }
            Profile::Bomb => {
                let (warm, bombing, cool) = BOMB_SECONDS;
                let calm = BOMB_WARM_RATE.min(per_connection * connections) / connections;
                shape.phases = vec![
                    phase(Stage::Warm, warm, all, (calm, calm)),
                    phase(Stage::Peak, bombing, all, steady),
                    phase(Stage::Cool, cool, all, (calm, calm)),
                ];
                shape.mark_bomb();
            }
        }
        shape
    }

    fn mark(&mut self, label: String, from_s: f64, to_s: f64) {
        self.marks.push(Mark { label, from_s, to_s });
    }

    fn mark_evenly(&mut self, rows: u32) {
        let total = self.seconds();
        for row in 0..rows {
            let at = |row: u32| total * f64::from(row) / f64::from(rows);
            self.mark(format!("{} s", round(at(row))), at(row), at(row + 1));
        }
    }

    fn mark_flood(&mut self, connections: f64) {
        let [rise, hold, cool] = [0, 1, 2].map(|phase: usize| self.phases[phase].seconds);
        let at: Vec<_> = FLOOD_ROWS.iter().map(|row| row / FLOOD_ROWS[6]).collect();
        for (row, part) in at.iter().enumerate() {
            // The last connection opens when the rise is over: that row is the first part of the time they all stay.
            let (from, to) = at.get(row + 1).map_or((rise, rise + hold / 3.0), |next| (part * rise, next * rise));
            self.mark(format!("{} connections", (part * connections).round()), from, to);
        }
        self.mark("held".to_owned(), rise + hold / 3.0, rise + hold);
        self.mark_cooling(rise + hold, cool, 4);
    }

    fn mark_bomb(&mut self) {
        let [warm, bombing, cool] = [0, 1, 2].map(|phase: usize| self.phases[phase].seconds);
        let scale = bombing / BOMB_SECONDS.1;
        let end = warm + bombing * 0.99;
        self.mark("warm".to_owned(), 0.0, warm);
        for (row, at) in BOMB_ROWS.iter().enumerate() {
            let to = BOMB_ROWS.get(row + 1).map_or(end, |next| warm + next * scale);
            self.mark(format!("bombing {} s", round(at * scale)), warm + at * scale, to);
        }
        self.mark("bombing end".to_owned(), end, warm + bombing);
        self.mark_cooling(warm + bombing, cool, 3);
    }

    fn mark_cooling(&mut self, start: f64, seconds: f64, rows: u32) {
        for row in 0..rows {
            let at = |row: u32| seconds * f64::from(row) / f64::from(rows);
            self.mark(format!("cooling {} s", round(at(row))), start + at(row), start + at(row + 1));
        }
    }

    /// How long it takes, seconds.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.phases.iter().map(|phase| phase.seconds).sum()
    }

    /// Connections at the most.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.phases.iter().map(|phase| phase.connections.0.max(phase.connections.1)).fold(0.0, f64::max).ceil() as usize
    }

    /// Each phase with the second it begins at.
    pub fn starts(&self) -> impl Iterator<Item = (f64, &Phase)> {
        self.phases.iter().scan(0.0, |at, phase| {
            let start = *at;
            *at += phase.seconds;
            Some((start, phase))
        })
    }

    /// The phase at a moment.
    #[must_use]
    pub fn phase_at(&self, at_s: f64) -> &Phase {
        self.starts().take_while(|(start, _)| *start <= at_s).last().map_or(&self.phases[0], |(_, phase)| phase)
    }

    /// When the connection of this number, from 0, opens first, seconds; `None` when it never does.
    #[must_use]
    pub fn opens_at(&self, number: usize) -> Option<f64> {
        let number = number as f64;
        self.starts().find_map(|(start, phase)| {
            let (from, to) = phase.connections;
            if number < from {
                return Some(start);
            }
            // The first of a rise from none opens at once.
            (number < to).then(|| start + phase.seconds * (number - from) / (to - from))
        })
    }

    /// When it closes, seconds: at the beginning of the first phase, after it opened, that has fewer connections.
    #[must_use]
    pub fn closes_at(&self, number: usize) -> f64 {
        let Some(opens) = self.opens_at(number) else { return 0.0 };
        let number = number as f64;
        let over = self.starts().find(|(start, phase)| *start > opens && number >= phase.connections.0.max(phase.connections.1));
        over.map_or_else(|| self.seconds(), |(start, _)| start)
    }

    /// Messages that a connection which is open all the time has sent until a moment.
    #[must_use]
    pub fn sent_by(&self, at_s: f64) -> f64 {
        self.starts().take_while(|(start, _)| *start < at_s).map(|(start, phase)| phase.sent((at_s - start).min(phase.seconds))).sum()
    }

    /// When such a connection has sent so many: the reverse of [`Self::sent_by`]. `None` when it never has.
    #[must_use]
    pub fn sent_at(&self, messages: f64) -> Option<f64> {
        let mut left = messages;
        for (start, phase) in self.starts() {
            let sent = phase.sent(phase.seconds);
            if left <= sent && sent > 0.0 {
                return Some(start + phase.when(left));
            }
            left -= sent;
        }
        None
    }
}

impl Phase {
    /// Messages of one connection in the first `after_s` seconds.
    fn sent(&self, after_s: f64) -> f64 {
        let (from, to) = self.rate;
        if self.seconds <= 0.0 {
            return 0.0;
        }
        from.mul_add(after_s, (to - from) * after_s * after_s / (2.0 * self.seconds))
    }

    /// The reverse: the positive root of `from·t + (to-from)/(2T)·t² = messages`, in the form that does not lose digits when it is linear.
    fn when(&self, messages: f64) -> f64 {
        let (from, to) = self.rate;
        let slope = (to - from) / self.seconds;
        let root = from.mul_add(from, 2.0 * slope * messages).max(0.0).sqrt();
        if from + root <= 0.0 { 0.0 } else { (2.0 * messages / (from + root)).min(self.seconds) }
    }
}

/// For a label: whole seconds, and tenths of them in a run that was made short.
fn round(seconds: f64) -> f64 {
    (seconds * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Wishes = Wishes { rate: None, connections: None, seconds: None, time_scale: 1.0 };

    fn messages(shape: &Shape) -> f64 {
        let connections = 0..shape.connections();
        let of = |number| shape.opens_at(number).map_or(0.0, |opens| shape.sent_by(shape.closes_at(number)) - shape.sent_by(opens));
        connections.map(of).sum()
    }

    #[test]
    fn profiles_have_the_parameters_of_the_original() {
        let baseline = Shape::of(Profile::Baseline, &PLAIN);
        assert_eq!((baseline.seconds(), baseline.connections(), messages(&baseline)), (300.0, 25, 750_000.0));
        let flood = Shape::of(Profile::Flood, &PLAIN);
        assert_eq!((flood.seconds(), flood.connections()), (600.0, 500));
        assert_eq!(flood.opens_at(0), Some(0.0));
        assert_eq!(flood.opens_at(250), Some(150.0));
        assert_eq!((flood.closes_at(4), flood.closes_at(5), flood.closes_at(499)), (600.0, 480.0, 480.0));
        let bomb = Shape::of(Profile::Bomb, &PLAIN);
        assert_eq!((bomb.seconds(), bomb.connections()), (420.0, 64));
        assert!((messages(&bomb) - (30.0 * 200.0 + 300.0 * 150_000.0 + 90.0 * 200.0)).abs() < 1.0);
        let hold = Shape::of(Profile::Hold, &PLAIN);
        assert_eq!((hold.seconds(), hold.connections(), messages(&hold)), (7200.0, 5000, 36_000_000.0));
    }

    #[test]
    fn rows_stand_where_the_original_had_them() {
        let labels = |profile| Shape::of(profile, &PLAIN).marks.into_iter().map(|mark| (mark.label, mark.from_s)).collect::<Vec<_>>();
        let flood = labels(Profile::Flood);
        for (connections, at) in [(5, 3.0), (50, 30.0), (100, 60.0), (200, 120.0), (250, 150.0), (350, 210.0), (500, 300.0)] {
            assert!(flood.contains(&(format!("{connections} connections"), at)), "{connections}: {flood:?}");
        }
        let bomb = labels(Profile::Bomb);
        for at in [0.0, 30.0, 60.0, 90.0, 120.0, 150.0, 250.0] {
            assert!(bomb.contains(&(format!("bombing {at} s"), 30.0 + at)), "{at}: {bomb:?}");
        }
        for at in [0.0, 30.0, 60.0] {
            assert!(bomb.contains(&(format!("cooling {at} s"), 330.0 + at)), "{at}: {bomb:?}");
        }
        for profile in [Profile::Baseline, Profile::Flood, Profile::Bomb, Profile::Hold, Profile::Ramp, Profile::Mixed] {
            let shape = Shape::of(profile, &PLAIN);
            for pair in shape.marks.windows(2) {
                assert!((pair[0].to_s - pair[1].from_s).abs() < 1e-9 || pair[0].from_s < pair[1].from_s, "{pair:?}");
            }
            assert!((shape.marks.last().expect("rows").to_s - shape.seconds()).abs() < 1e-9);
        }
    }

    #[test]
    fn a_time_scale_keeps_shape_and_rates() {
        let whole = Shape::of(Profile::Bomb, &PLAIN);
        let short = Shape::of(Profile::Bomb, &Wishes { time_scale: 0.05, ..PLAIN });
        assert!((short.seconds() - 21.0).abs() < 1e-9);
        for (a, b) in whole.phases.iter().zip(&short.phases) {
            assert_eq!((a.rate, a.connections, a.stage), (b.rate, b.connections, b.stage));
        }
        let told = Shape::of(Profile::Bomb, &Wishes { seconds: Some(42.0), ..PLAIN });
        assert!((told.seconds() - 42.0).abs() < 1e-9 && (told.phases[1].seconds - 30.0).abs() < 1e-9);
    }

    #[test]
    fn more_connections_send_more_unless_the_rate_is_given() {
        let per = |wishes: &Wishes| Shape::of(Profile::Baseline, wishes).phases[0].rate.0;
        assert!((per(&Wishes { connections: Some(50), ..PLAIN }) - 100.0).abs() < 1e-9);
        assert!((per(&Wishes { connections: Some(50), rate: Some(500.0), ..PLAIN }) - 10.0).abs() < 1e-9);
    }

    #[test]
    fn the_reverse_is_the_reverse() {
        for profile in [Profile::Bomb, Profile::Ramp, Profile::Flood] {
            let shape = Shape::of(profile, &PLAIN);
            let total = shape.sent_by(shape.seconds());
            for part in 1..100 {
                let messages = total * f64::from(part) / 100.0;
                let at = shape.sent_at(messages).expect("within the run");
                assert!((shape.sent_by(at) - messages).abs() < 1e-6 * total, "{profile:?} {messages} {at}");
            }
            assert_eq!(shape.sent_at(total + 1.0), None);
        }
    }
}
