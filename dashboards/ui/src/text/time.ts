// Times: the only place that turns instants into words and words into instants.
// Instants are decimal strings of epoch nanoseconds (JavaScript numbers lose them) or epoch milliseconds as numbers.

/** `utc` or the IANA name of a zone. */
export type Zone = string;

export const UTC: Zone = 'utc';

const RELATIVE = /^-(\d{1,6})(s|m|h|d)$/;
const UNIT_MS: Record<string, number> = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** The zone of this browser; `utc` when the browser knows none. */
export function localZone(): Zone {
  const name = Intl.DateTimeFormat().resolvedOptions().timeZone;
  return !name || name === 'UTC' || name === 'Etc/UTC' ? UTC : name;
}

export function isZone(text: string): boolean {
  if (text === UTC) return true;
  try {
    new Intl.DateTimeFormat('en', { timeZone: text });
    return true;
  } catch {
    return false;
  }
}

/** Milliseconds of a nanosecond string, cut (not rounded) below the millisecond. */
export function millisOf(nanos: string): number {
  if (nanos.length <= 6) return 0;
  return Number(nanos.slice(0, -6));
}

export function nanosOf(millis: number): string {
  return `${BigInt(Math.round(millis)) * 1_000_000n}`;
}

interface Parts {
  year: string;
  month: string;
  day: string;
  hour: string;
  minute: string;
  second: string;
}

const formats = new Map<Zone, Intl.DateTimeFormat>();

function partsIn(millis: number, zone: Zone): Parts {
  if (zone === UTC) {
    const iso = new Date(millis).toISOString();
    const at = iso.indexOf('T');
    const [year = '', month = '', day = ''] = iso.slice(0, at).split('-');
    return { year, month, day, hour: iso.slice(at + 1, at + 3), minute: iso.slice(at + 4, at + 6), second: iso.slice(at + 7, at + 9) };
  }
  let format = formats.get(zone);
  if (!format) {
    format = new Intl.DateTimeFormat('en-GB', {
      timeZone: zone, hourCycle: 'h23', year: 'numeric', month: '2-digit', day: '2-digit',
      hour: '2-digit', minute: '2-digit', second: '2-digit',
    });
    formats.set(zone, format);
  }
  const found: Record<string, string> = {};
  for (const part of format.formatToParts(millis)) found[part.type] = part.value;
  return found as unknown as Parts;
}

const fraction = (millis: number): string => String(((Math.floor(millis) % 1000) + 1000) % 1000).padStart(3, '0');

/** `03:12:41.000` */
export function clock(millis: number, zone: Zone): string {
  const p = partsIn(millis, zone);
  return `${p.hour}:${p.minute}:${p.second}.${fraction(millis)}`;
}

/** `03:12`, or `03:12:41` when seconds matter. */
export function shortClock(millis: number, zone: Zone, seconds: boolean): string {
  const p = partsIn(millis, zone);
  return seconds ? `${p.hour}:${p.minute}:${p.second}` : `${p.hour}:${p.minute}`;
}

/** `2026-11-22` */
export function date(millis: number, zone: Zone): string {
  const p = partsIn(millis, zone);
  return `${p.year}-${p.month}-${p.day}`;
}

/** `2026-11-22 03:12:41.000` */
export function full(millis: number, zone: Zone): string {
  return `${date(millis, zone)} ${clock(millis, zone)}`;
}

/** `2026-11-22 03:12:41` */
export function toSecond(millis: number, zone: Zone): string {
  return full(millis, zone).slice(0, -4);
}

/** Minutes that `zone` is ahead of UTC at that instant. */
export function offsetMinutes(millis: number, zone: Zone): number {
  if (zone === UTC) return 0;
  const p = partsIn(millis, zone);
  const wall = Date.UTC(+p.year, +p.month - 1, +p.day, +p.hour, +p.minute, +p.second);
  return Math.round((wall - Math.floor(millis / 1000) * 1000) / 60_000);
}

/** What is printed beside times: `UTC`, or `Asia/Kolkata +05:30` (the offset of that instant). */
export function zoneLabel(zone: Zone, millis: number): string {
  if (zone === UTC) return 'UTC';
  return `${zone} ${offsetLabel(offsetMinutes(millis, zone))}`;
}

function offsetLabel(minutes: number): string {
  const size = Math.abs(minutes);
  return `${minutes < 0 ? '-' : '+'}${String(Math.floor(size / 60)).padStart(2, '0')}:${String(size % 60).padStart(2, '0')}`;
}

/** The same instant in the other zone, for a hover text. */
export function inOtherZone(millis: number, zone: Zone): string {
  const other = zone === UTC ? localZone() : UTC;
  return `${full(millis, other)} ${zoneLabel(other, millis)}`;
}

/** Turns a wall time of `zone` into an instant. A time that a clock change skips moves to the hour after; of a doubled one the first is taken. */
export function instantOf(wall: { year: number; month: number; day: number; hour: number; minute: number; second: number; milli: number }, zone: Zone): number {
  const naive = Date.UTC(wall.year, wall.month - 1, wall.day, wall.hour, wall.minute, wall.second, wall.milli);
  if (zone === UTC) return naive;
  const before = naive - offsetMinutes(naive - 86_400_000, zone) * 60_000;
  const after = naive - offsetMinutes(naive + 86_400_000, zone) * 60_000;
  for (const guess of [Math.min(before, after), Math.max(before, after)]) {
    if (guess + offsetMinutes(guess, zone) * 60_000 === naive) return guess;
  }
  return before;
}

const WALL = /^(\d{4})-(\d{2})-(\d{2})(?:[T ](\d{2}):(\d{2})(?::(\d{2})(?:[.,](\d{1,9}))?)?)?\s*(Z|UTC|[+-]\d{2}:?\d{2})?$/i;

/**
 * Reads what a person types or a link carries: `now`, `-15m`, `now-1h`, epoch digits (s, ms, us, ns told apart by length),
 * or `2026-11-22 03:12:41`, read in `zone` unless it names an offset. Answers `now`, `-15m`, or epoch milliseconds as digits; null if unreadable.
 */
export function parseTime(text: string, zone: Zone): string | null {
  const t = text.trim();
  if (t === 'now') return 'now';
  const relative = t.startsWith('now-') ? t.slice(3) : t;
  if (RELATIVE.test(relative)) return relative;
  if (/^\d{9,19}$/.test(t)) {
    const digits = t.length;
    if (digits <= 11) return `${BigInt(t) * 1000n}`;
    if (digits <= 14) return `${BigInt(t)}`;
    return `${BigInt(t) / (digits <= 16 ? 1000n : 1_000_000n)}`;
  }
  const m = WALL.exec(t);
  if (!m) return null;
  const [, y, mo, d, h = '0', mi = '0', s = '0', frac = '0', named] = m;
  const wall = { year: Number(y), month: Number(mo), day: Number(d), hour: Number(h), minute: Number(mi), second: Number(s), milli: Number(frac.padEnd(3, '0').slice(0, 3)) };
  if (wall.month < 1 || wall.month > 12 || wall.day < 1 || wall.day > 31 || wall.hour > 23 || wall.minute > 59 || wall.second > 59) return null;
  if (!named) return String(instantOf(wall, zone));
  const utc = instantOf(wall, UTC);
  if (/^(z|utc)$/i.test(named)) return String(utc);
  const sign = named[0] === '-' ? -1 : 1;
  const clean = named.slice(1).replace(':', '');
  return String(utc - sign * (Number(clean.slice(0, 2)) * 60 + Number(clean.slice(2))) * 60_000);
}

/** The instant a range bound means when it is now `now`. */
export function resolve(bound: string, now: number): number {
  if (bound === 'now') return now;
  const m = RELATIVE.exec(bound);
  if (m) return now - Number(m[1]) * (UNIT_MS[m[2] ?? 's'] ?? 1000);
  return Number(bound);
}

export const isRelative = (bound: string): boolean => bound === 'now' || RELATIVE.test(bound);

/** How the API wants a range bound: relative ones stay words, absolute ones become nanoseconds. */
export const forApi = (bound: string): string => (isRelative(bound) ? bound : nanosOf(Number(bound)));

/** `Last 1h`, or the two ends with the date said once. */
export function rangeLabel(from: string, to: string, zone: Zone): string {
  const m = RELATIVE.exec(from);
  if (m && to === 'now') return `Last ${m[1]}${m[2]}`;
  const one = (bound: string): string => (isRelative(bound) ? bound : toSecond(Number(bound), zone));
  const a = one(from);
  const b = one(to);
  return a.slice(0, 10) === b.slice(0, 10) && a.length > 12 && b.length > 12 ? `${a} – ${b.slice(11)}` : `${a} – ${b}`;
}

/** `4 min`, `2 h 5 min`, `3 d 4 h`: how long ago or for how long, in at most two units. */
export function span(millis: number): string {
  const seconds = Math.max(0, Math.round(millis / 1000));
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
  const days = Math.floor(hours / 24);
  return hours % 24 ? `${days} d ${hours % 24} h` : `${days} d`;
}
