import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { axisLabel, bytes, duration, measure } from './number';
import { type Pill, compose, parsePill, pillQuery, pillText, splitAt, togglePill } from './query';
import { serviceClass } from './severity';
import { findTraceId, xraySpelling } from './trace-id';

const pill = (over: Partial<Pill> = {}): Pill => ({ sign: '+', field: 'service', value: 'payment', off: false, ...over });

describe('numbers', () => {
  test('durations have at most three digits and always a unit', () => {
    expect([0, 850, 1500, 24_100_000, 708_100_000, 999_700_000, 6_040_000_000, 125e9, 7300e9].map(duration))
      .toEqual(['0 s', '850 ns', '1.50 µs', '24.1 ms', '708 ms', '1.00 s', '6.04 s', '2 min 5 s', '2 h 1 min']);
  });
  test('what is rounded up to a digit more still has three', () => {
    expect([99_999_000, 9_999_000, 99_940_000].map(duration)).toEqual(['100 ms', '10.0 ms', '99.9 ms']);
  });
  test('marks of an axis have no needless zeros', () => {
    expect([0, 250e6, 2.5e9, 5e9, 10e9, 1.25e6, 60e9, 90e9, 6 * 3600e9, 9000e9, 60 * 3600e9].map(axisLabel))
      .toEqual(['0 s', '250 ms', '2.5 s', '5 s', '10 s', '1.25 ms', '1 min', '1 min 30 s', '6 h', '2 h 30 min', '2 d 12 h']);
  });
  test('bytes and measures', () => {
    expect(bytes(1_200_000)).toBe('1.20 MB');
    expect(bytes(999)).toBe('999 B');
    expect(measure(0.8231)).toBe('0.823');
    expect(measure(8301)).toBe('8,301');
    expect(measure('NaN')).toBe('NaN');
    expect(measure(null)).toBe('–');
  });
});

describe('pills', () => {
  test('any pill survives its spelling', () => {
    fc.assert(fc.property(fc.record({ sign: fc.constantFrom('+' as const, '-' as const), field: fc.string({ minLength: 1 }), value: fc.string(), off: fc.boolean() }), (p) => {
      expect(parsePill(pillText(p))).toEqual(p);
    }));
  });
  test('values are quoted, so that they mean only themselves', () => {
    expect(pillQuery(pill({ value: 'a "b" OR c\\' }))).toBe('service:"a \\"b\\" OR c\\\\"');
    expect(pillQuery(pill({ sign: '-', value: '*' }))).toBe('NOT service:*');
    expect(pillQuery(pill({ field: 'aws:tag key' }))).toBe('aws\\:tag\\ key:"payment"');
  });
  test('pills join the typed query; those that are off do not', () => {
    expect(compose('a OR b', [pill(), pill({ field: 'host', sign: '-', value: 'x' }), pill({ field: 'z', off: true })]))
      .toEqual({ query: '(a OR b) AND service:"payment" AND NOT host:"x"', offset: 1 });
    expect(compose('a', [pill({ off: true })])).toEqual({ query: 'a', offset: 0 });
    expect(compose('  ', [pill()]).offset).toBe(-1);
  });
  test('an error is marked in the typed text, counted in characters', () => {
    expect(splitAt('🙂 status:[5', 9, 0)).toEqual({ before: '🙂 status:', at: '[', after: '5' });
    expect(splitAt('abc', 1, 1)).toEqual({ before: '', at: 'a', after: 'bc' });
    expect(splitAt('abc', 9, 1)).toBeNull();
    expect(splitAt('abc', 2, -1)).toBeNull();
  });
  test('a click adds, flips or removes', () => {
    expect(togglePill([], pill())).toEqual([pill()]);
    expect(togglePill([pill()], pill())).toEqual([]);
    expect(togglePill([pill()], pill({ sign: '-' }))).toEqual([pill({ sign: '-' })]);
    expect(togglePill([pill({ off: true })], pill())).toEqual([pill()]);
  });
});

describe('trace IDs', () => {
  const hex = '5f84c7a1d2e94c0b9f3a11aa22bb33cc';
  test('every pasted spelling is seen', () => {
    expect(findTraceId(hex)).toBe(hex);
    expect(findTraceId(`  trace=${hex}, `)).toBe(hex);
    expect(findTraceId('Root=1-5f84c7a1-d2e94c0b9f3a11aa22bb33cc;Parent=53995c3f42cd8ad8;Sampled=1')).toBe('1-5f84c7a1-d2e94c0b9f3a11aa22bb33cc');
    expect(findTraceId(`00-${hex}-53995c3f42cd8ad8-01`)).toBe(hex);
    expect(findTraceId('53995c3f42cd8ad8')).toBe('53995c3f42cd8ad8');
    expect(findTraceId('6023947403358210776')).toBe('6023947403358210776');
    expect(xraySpelling(hex)).toBe('1-5f84c7a1-d2e94c0b9f3a11aa22bb33cc');
  });
  test('words and small numbers are none', () => {
    for (const t of ['', 'payment declined', 'service:cart', '502', 'deadbeef']) expect(findTraceId(t)).toBeNull();
  });
});

test('the eight services of the demo have eight colours', () => {
  const shop = ['frontend', 'cart', 'checkout', 'payment', 'inventory', 'shipping', 'email', 'search'];
  expect(new Set(shop.map(serviceClass)).size).toBe(8);
});
