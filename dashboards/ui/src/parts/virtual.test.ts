import fc from 'fast-check';
import { expect, test } from 'vitest';
import { scrollFor, windowOf } from './virtual';

test('every visible row exists and few others do', () => {
  fc.assert(fc.property(fc.nat(200_000), fc.integer({ min: 20, max: 3000 }), fc.constantFrom(22, 24), fc.nat({ max: 10_000 }).map((n) => n / 10_000), (count, height, row, share) => {
    const scrollTop = share * Math.max(0, count * row - height);
    const { first, end } = windowOf(scrollTop, height, row, count);
    expect(first).toBeLessThanOrEqual(Math.floor(scrollTop / row));
    expect(end).toBeGreaterThanOrEqual(Math.min(count, Math.ceil((scrollTop + height) / row)));
    expect(end - first).toBeLessThanOrEqual(Math.ceil(height / row) + 24);
    expect(end).toBeLessThanOrEqual(count);
  }));
});

test('a screen of 860 pixels keeps at most 80 rows', () => {
  const { first, end } = windowOf(100_000, 860, 22, 100_000);
  expect(end - first).toBeLessThanOrEqual(80);
});

test('a small scroll step changes nothing', () => {
  const a = windowOf(22 * 400, 800, 22, 10_000);
  expect(windowOf(22 * 401, 800, 22, 10_000)).toEqual(a);
});

test('a list that became shorter has a window of its own rows', () => {
  expect(windowOf(50_000, 800, 22, 10)).toEqual({ first: 9, end: 10 });
  expect(windowOf(50_000, 800, 22, 0)).toEqual({ first: 0, end: 0 });
});

test('rows in view do not scroll; others move as little as needed', () => {
  expect(scrollFor(5, 0, 220, 22)).toBeNull();
  expect(scrollFor(10, 0, 220, 22)).toBe(22);
  expect(scrollFor(2, 100, 220, 22)).toBe(44);
});
