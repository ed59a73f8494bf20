// The URL is the only store of what a page shows. This module turns state into a link and back; it knows no browser objects.
// Each parameter has one codec; a value that cannot be read is kept out and named, so that a page is never blank because of its link.

import { type Pill, parsePill, pillText } from '../text/query';
import { UTC, type Zone, isZone, parseTime } from '../text/time';

/** What travels along when one changes page. */
export interface Common {
  /** `-1h`, or epoch milliseconds as digits. */
  from: string;
  /** `now`, `-5m`, or epoch milliseconds as digits. */
  to: string;
  tz: Zone;
  f: Pill[];
}

export interface Column {
  name: string;
  /** Pixels; null = the default of that column. */
  width: number | null;
}

/** A record and its time, which lets the server find it without reading every block. */
export interface RecordRef {
  id: string;
  /** Epoch nanoseconds. */
  time: string;
}

export interface SearchState extends Common {
  q: string;
  cols: Column[];
  sel: RecordRef | null;
  open: string[];
  live: boolean;
}

export interface TracesState extends Common {
  q: string;
  /** The first spans of traces only, or any span that matches. */
  spans: 'roots' | 'all';
}

export interface TraceState extends Common {
  id: string;
  view: 'waterfall' | 'logs';
  /** The selected span. */
  span: string;
  /** The log that a link points to. */
  log: string;
  /** The shown window, in nanoseconds from the trace's start. */
  zoom: { start: number; end: number } | null;
  /** Which log rows the waterfall leaves out: none, those below WARN, or all. */
  hide: '' | 'low' | 'logs';
  /** Spans that are folded. */
  shut: string[];
  tab: 'attributes' | 'logs' | 'json';
}

export type AlertsState = Common;

export interface AlertState extends Common {
  id: string;
}

export interface States {
  search: SearchState;
  traces: TracesState;
  trace: TraceState;
  alerts: AlertsState;
  alert: AlertState;
}

export type PageName = keyof States;
export const PAGES: readonly PageName[] = ['search', 'traces', 'trace', 'alerts', 'alert'];

export const DEFAULT_COLUMNS: readonly Column[] = [{ name: 'service', width: null }, { name: 'body', width: null }];

interface Codec<T> {
  initial: T;
  /** Undefined = unreadable. The parameter may be there more than once. */
  read(values: string[]): T | undefined;
  /** Empty = the parameter is left out. */
  write(value: T): string[];
}

const text: Codec<string> = { initial: '', read: (v) => v[0], write: (s) => (s ? [s] : []) };

const bound = (initial: string): Codec<string> => ({
  initial,
  read: (v) => parseTime(v[0] ?? '', UTC) ?? undefined,
  write: (s) => (s === initial ? [] : [s]),
});

const zone: Codec<Zone> = { initial: UTC, read: (v) => (isZone(v[0] ?? '') ? v[0] : undefined), write: (z) => (z === UTC ? [] : [z]) };

const flag: Codec<boolean> = {
  initial: false,
  read: (v) => (v[0] === '1' ? true : v[0] === '0' ? false : undefined),
  write: (b) => (b ? ['1'] : []),
};

const choice = <T extends string>(options: readonly T[]): Codec<T> => ({
  initial: options[0] as T,
  read: (v) => options.find((o) => o === v[0]),
  write: (o) => (o === options[0] ? [] : [o]),
});

const pills: Codec<Pill[]> = {
  initial: [],
  read: (v) => {
    const read = v.map(parsePill);
    return read.every((p) => p !== null) ? read : undefined;
  },
  write: (list) => list.map(pillText),
};

const guard = (s: string): string => s.replace(/[%,:]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);
const unguard = (s: string): string => s.replace(/%(25|2C|3A)/g, (_, hex: string) => String.fromCharCode(parseInt(hex, 16)));

const columns: Codec<Column[]> = {
  initial: [...DEFAULT_COLUMNS],
  read: (v) => {
    const list: Column[] = [];
    for (const part of (v[0] ?? '').split(',')) {
      const [name = '', width] = part.split(':');
      if (!name || (width !== undefined && !/^\d{2,4}$/.test(width))) return undefined;
      if (list.some((c) => c.name === unguard(name))) return undefined;
      list.push({ name: unguard(name), width: width === undefined ? null : Number(width) });
    }
    return list.length > 0 ? list : undefined;
  },
  write: (list) => {
    const written = list.map((c) => (c.width === null ? guard(c.name) : `${guard(c.name)}:${c.width}`)).join(',');
    return written === 'service,body' || written === '' ? [] : [written];
  },
};

const words: Codec<string[]> = {
  initial: [],
  read: (v) => (v[0] ?? '').split(',').filter(Boolean).map(unguard),
  write: (list) => (list.length ? [list.map(guard).join(',')] : []),
};

const record: Codec<RecordRef | null> = {
  initial: null,
  read: (v) => {
    const m = /^([^.]+)\.(\d{1,19})$/.exec(v[0] ?? '');
    return m ? { id: m[1] as string, time: m[2] as string } : undefined;
  },
  write: (r) => (r ? [`${r.id}.${r.time}`] : []),
};

const zoom: Codec<TraceState['zoom']> = {
  initial: null,
  read: (v) => {
    const m = /^(\d{1,16})-(\d{1,16})$/.exec(v[0] ?? '');
    return m && Number(m[1]) < Number(m[2]) ? { start: Number(m[1]), end: Number(m[2]) } : undefined;
  },
  write: (z) => (z ? [`${Math.round(z.start)}-${Math.round(z.end)}`] : []),
};

type Codecs<S> = { [K in keyof S]: Codec<S[K]> };

const common: Codecs<Common> = { from: bound('-1h'), to: bound('now'), tz: zone, f: pills };

const codecs: { [P in PageName]: Codecs<States[P]> } = {
  search: { q: text, ...common, cols: columns, sel: record, open: words, live: flag },
  traces: { q: text, ...common, spans: choice(['roots', 'all']) },
  trace: {
    id: text, span: text, log: text, view: choice(['waterfall', 'logs']), zoom, hide: choice(['', 'low', 'logs']), shut: words,
    tab: choice(['attributes', 'logs', 'json']), ...common,
  },
  alerts: { ...common },
  alert: { id: text, ...common },
};

/** The state a link means, and one sentence for each parameter that was left out. */
export function readState<P extends PageName>(page: P, query: string): { state: States[P]; problems: string[] } {
  const params = new URLSearchParams(query);
  const known = codecs[page] as Record<string, Codec<unknown>>;
  const state: Record<string, unknown> = {};
  const problems: string[] = [];
  for (const [name, codec] of Object.entries(known)) {
    const values = params.getAll(name);
    const value = values.length ? codec.read(values) : codec.initial;
    if (value === undefined) problems.push(`“${name}” could not be read (${values.join(', ').slice(0, 60)})`);
    state[name] = value === undefined ? codec.initial : value;
  }
  for (const name of new Set(params.keys())) {
    if (!(name in known)) problems.push(`“${name}” is not a parameter of this page`);
  }
  return { state: state as unknown as States[P], problems };
}

/** The query part of a link, without `?`; parameters at their default are left out. */
export function writeState<P extends PageName>(page: P, state: States[P]): string {
  const parts: string[] = [];
  for (const [name, codec] of Object.entries(codecs[page] as Record<string, Codec<unknown>>)) {
    for (const value of codec.write((state as unknown as Record<string, unknown>)[name])) parts.push(`${name}=${readable(value)}`);
  }
  return parts.join('&');
}

/** Links of alerts say which table they search; spans have a page of their own. Null = the link is about logs. */
export function spansLink(query: string): string | null {
  const params = new URLSearchParams(query);
  const table = params.get('table');
  if (table === null) return null;
  params.delete('table');
  if (table !== 'spans') return `search?${params}`;
  params.set('spans', 'all');
  return `traces?${params}`;
}

/** The default state of a page. */
export function initialState<P extends PageName>(page: P): States[P] {
  return readState(page, '').state;
}

/** Encodes what a query part must encode and nothing more, so that people can read and edit a link. */
function readable(value: string): string {
  return encodeURIComponent(value)
    .replace(/%20/g, '+')
    .replace(/%(3A|2F|2C|40|24|3B)/g, (hex) => decodeURIComponent(hex));
}
