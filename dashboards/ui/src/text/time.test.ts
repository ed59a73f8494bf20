import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { clock, full, instantOf, millisOf, offsetMinutes, parseTime, rangeLabel, resolve, span, zoneLabel } from './time';

const ZONES = ['utc', 'America/Los_Angeles', 'Asia/Kolkata'];
const at = Date.UTC(2026, 10, 22, 3, 12, 41, 7);

describe('times in zones', () => {
  test('one instant in three zones', () => {
    expect(full(at, 'utc')).toBe('2026-11-22 03:12:41.007');
    expect(full(at, 'America/Los_Angeles')).toBe('2026-11-21 19:12:41.007');
    expect(full(at, 'Asia/Kolkata')).toBe('2026-11-22 08:42:41.007');
    expect(zoneLabel('Asia/Kolkata', at)).toBe('Asia/Kolkata +05:30');
    expect(zoneLabel('America/Los_Angeles', at)).toBe('America/Los_Angeles -08:00');
    expect(zoneLabel('utc', at)).toBe('UTC');
  });

  test('the offset is that of the instant, before and after clocks change', () => {
    expect(offsetMinutes(Date.UTC(2026, 9, 31), 'America/Los_Angeles')).toBe(-420);
    expect(offsetMinutes(Date.UTC(2026, 10, 2), 'America/Los_Angeles')).toBe(-480);
  });

  test('midnight is 00, not 24', () => {
    expect(clock(Date.UTC(2026, 10, 22, 8, 0, 0), 'America/Los_Angeles')).toBe('00:00:00.000');
  });

  test('what is printed is read back as the same instant', () => {
    // Clocks go back on 2026-11-01 in Los Angeles; the doubled hour (08:00–09:59 UTC) has one spelling for two instants and is left out.
    fc.assert(fc.property(fc.integer({ min: Date.UTC(2026, 0, 1), max: Date.UTC(2026, 11, 31) }), fc.constantFrom(...ZONES), (ms, zone) => {
      fc.pre(zone !== 'America/Los_Angeles' || ms < Date.UTC(2026, 10, 1, 8) || ms >= Date.UTC(2026, 10, 1, 10));
      expect(parseTime(full(ms, zone), zone)).toBe(String(ms));
    }));
  });

  test('of a doubled hour the first is taken; a skipped hour moves on', () => {
    const wall = { year: 2026, month: 11, day: 1, hour: 1, minute: 30, second: 0, milli: 0 };
    expect(instantOf(wall, 'America/Los_Angeles')).toBe(Date.UTC(2026, 10, 1, 8, 30));
    const skipped = instantOf({ ...wall, month: 3, day: 8, hour: 2 }, 'America/Los_Angeles');
    expect(full(skipped, 'America/Los_Angeles')).toBe('2026-03-08 03:30:00.000');
  });

  test('what people type', () => {
    expect(parseTime('now', 'utc')).toBe('now');
    expect(parseTime('now-1h', 'utc')).toBe('-1h');
    expect(parseTime('1795317161', 'utc')).toBe('1795317161000');
    expect(parseTime('1795317161007', 'utc')).toBe('1795317161007');
    expect(parseTime('1795317161007123', 'utc')).toBe('1795317161007');
    expect(parseTime('1795317161007123456', 'utc')).toBe('1795317161007');
    expect(parseTime('2026-11-22', 'Asia/Kolkata')).toBe(String(Date.UTC(2026, 10, 21, 18, 30)));
    expect(parseTime('2026-11-22 08:42:41 +05:30', 'utc')).toBe(String(at - 7));
    for (const bad of ['', 'yesterday', '2026-13-01', '2026-11-22 25:00', '-1y', '12']) expect(parseTime(bad, 'utc')).toBeNull();
  });

  test('no text breaks the reader', () => {
    fc.assert(fc.property(fc.string(), (t) => {
      const read = parseTime(t, 'America/Los_Angeles');
      if (read !== null) expect(Number.isFinite(resolve(read, at))).toBe(true);
    }));
  });

  test('nanoseconds are cut, not rounded, and keep their digits', () => {
    expect(millisOf('1795317161007999999')).toBe(1795317161007);
  });

  test('ranges in words', () => {
    expect(rangeLabel('-1h', 'now', 'utc')).toBe('Last 1h');
    expect(rangeLabel(String(at), String(at + 60_000), 'utc')).toBe('2026-11-22 03:12:41 – 03:13:41');
    expect(rangeLabel(String(at), 'now', 'utc')).toBe('2026-11-22 03:12:41 – now');
  });

  test('spans of time in words', () => {
    expect(span(14_000)).toBe('14 s');
    expect(span(14 * 60_000)).toBe('14 min');
    expect(span(125 * 60_000)).toBe('2 h 5 min');
    expect(span(76 * 3_600_000)).toBe('3 d 4 h');
  });
});
