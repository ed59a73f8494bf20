import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { PAGES, type PageName, type States, initialState, readState, spansLink, writeState } from './url';

const text = fc.string({ unit: 'grapheme', maxLength: 40 });
const name = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 20 });
const bound = fc.oneof(fc.constant('now'), fc.constantFrom('-5m', '-1h', '-24h', '-7d'), fc.integer({ min: 1e12, max: 2e12 }).map(String));
const pill = fc.record({ sign: fc.constantFrom('+' as const, '-' as const), field: name, value: text, off: fc.boolean() });
const common = { from: bound, to: bound, tz: fc.constantFrom('utc', 'Asia/Kolkata', 'America/Los_Angeles'), f: fc.array(pill, { maxLength: 4 }) };
const id = fc.stringMatching(/^[0-9a-f]{1,16}$/);
const nanos = fc.bigInt({ min: 0n, max: 9_000_000_000_000_000_000n }).map(String);
const column = fc.record({ name, width: fc.option(fc.integer({ min: 40, max: 900 })) });

const states: { [P in PageName]: fc.Arbitrary<States[P]> } = {
  search: fc.record({
    ...common, q: text, live: fc.boolean(), open: fc.array(id, { maxLength: 3 }),
    cols: fc.uniqueArray(column, { minLength: 1, maxLength: 4, selector: (c) => c.name }),
    sel: fc.option(fc.record({ id, time: nanos })),
  }),
  traces: fc.record({ ...common, q: text, spans: fc.constantFrom('roots' as const, 'all' as const) }),
  trace: fc.record({
    ...common, id: text, span: fc.oneof(fc.constant(''), id), log: fc.oneof(fc.constant(''), id), view: fc.constantFrom('waterfall' as const, 'logs' as const),
    hide: fc.constantFrom('' as const, 'low' as const, 'logs' as const), shut: fc.array(id, { maxLength: 4 }), tab: fc.constantFrom('attributes' as const, 'logs' as const, 'json' as const),
    zoom: fc.option(fc.tuple(fc.integer({ min: 0, max: 1e9 }), fc.integer({ min: 1, max: 1e9 })).map(([start, width]) => ({ start, end: start + width }))),
  }),
  alerts: fc.record(common),
  alert: fc.record({ ...common, id: text }),
};

describe('state and URL', () => {
  for (const page of PAGES) {
    test(`${page}: any state survives the way through its link`, () => {
      fc.assert(fc.property(states[page] as fc.Arbitrary<States[typeof page]>, (state) => {
        const { state: again, problems } = readState(page, new URL(`http://x/ui/${page}?${writeState(page, state)}`).search);
        expect(again).toEqual(state);
        expect(problems).toEqual([]);
      }), { numRuns: 300 });
    });

    test(`${page}: no query text breaks the page`, () => {
      fc.assert(fc.property(fc.oneof(text, fc.array(fc.tuple(fc.constantFrom('from', 'to', 'tz', 'f', 'cols', 'sel', 'zoom', 'live', 'open', 'shut', 'zz'), text)).map((p) => new URLSearchParams(p).toString())), (query) => {
        const { state } = readState(page, query);
        expect(readState(page, writeState(page, state)).state).toEqual(state);
      }));
    });

    test(`${page}: the default state has an empty link`, () => {
      expect(writeState(page, initialState(page))).toBe('');
    });
  }

  test('bad and unknown parameters are named, the good ones are kept', () => {
    const { state, problems } = readState('search', '?q=a+b&from=bogus&tz=Mars/Olympus&zz=1&f=%2Bservice:payment');
    expect(state.q).toBe('a b');
    expect(state.from).toBe('-1h');
    expect(state.tz).toBe('utc');
    expect(state.f).toEqual([{ sign: '+', field: 'service', value: 'payment', off: false }]);
    expect(problems).toHaveLength(3);
    expect(problems.join(' ')).toMatch(/from.*tz.*zz/);
  });

  test('a link stays readable', () => {
    const link = writeState('search', { ...initialState('search'), q: 'service:payment severity>=WARN', f: [{ sign: '-', field: 'path', value: '/healthz', off: false }] });
    expect(link).toBe('q=service:payment+severity%3E%3DWARN&f=-path:/healthz');
  });

  test('a plus sign written bare into a pill is understood', () => {
    expect(readState('search', 'f=+service:cart').state.f[0]).toEqual({ sign: '+', field: 'service', value: 'cart', off: false });
  });

  test('a link of an alert about spans leads to the page of spans, one about logs stays', () => {
    expect(spansLink('?q=status:ERROR&from=1&table=spans')).toBe('traces?q=status%3AERROR&from=1&spans=all');
    expect(spansLink('?q=x&table=logs')).toBe('search?q=x');
    expect(spansLink('?q=x')).toBeNull();
  });

  test('a range in RFC 3339 or in nanoseconds becomes milliseconds', () => {
    const { state } = readState('search', 'from=2026-11-22T03:12:41Z&to=1795317161500000000');
    expect(state.from).toBe('1795317161000');
    expect(state.to).toBe('1795317161500');
  });
});
