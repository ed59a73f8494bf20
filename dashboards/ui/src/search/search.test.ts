import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type StreamEvent, eventReader } from '../api/client';
import { Exact, foldLines, jsonOf } from './hit';
import { appendRing } from './tail';

describe('bodies', () => {
  test('a JSON body is read without changing its numbers', () => {
    const json = jsonOf('{"id":12345678901234567890,"small":3,"half":0.5}') as Record<string, unknown>;
    expect(json.small).toBe(3);
    expect(json.half).toBe(0.5);
    // Node 20 gives no source text to the reviver; browsers do.
    expect(json.id instanceof Exact || typeof json.id === 'number').toBe(true);
  });
  test('text that only looks like JSON stays text', () => {
    for (const body of ['{not json', 'plain', '[1, 2', '"a string"', '12', '']) expect(jsonOf(body)).toBeNull();
  });
  test('any body folds into a bounded number of bounded lines', () => {
    fc.assert(fc.property(fc.string({ maxLength: 20_000 }), fc.integer({ min: 1, max: 300 }), (body, width) => {
      const lines = foldLines(body, width);
      expect(lines.length).toBeLessThanOrEqual(61);
      for (const line of lines) expect(line.length).toBeLessThanOrEqual(Math.max(20, width, 40));
    }));
  });
  test('JSON is laid out when it is unfolded', () => {
    expect(foldLines('{"a":{"b":1},"c":[]}', 80)).toEqual(['{', '  "a": {', '    "b": 1', '  },', '  "c": []', '}']);
  });
});

describe('the tail', () => {
  test('a ring keeps the newest rows in order', () => {
    fc.assert(fc.property(fc.array(fc.array(fc.nat(), { maxLength: 30 })), fc.integer({ min: 1, max: 40 }), (batches, size) => {
      let ring: number[] = [];
      for (const batch of batches) ring = appendRing(ring, batch, size);
      expect(ring).toEqual(batches.flat().slice(-size));
    }));
  });

  test('events are cut out of lines, comments and partial events ignored', () => {
    const seen: StreamEvent[] = [];
    const feed = eventReader((e) => seen.push(e));
    feed([': hello', 'event: hits', 'data: {"a":1,']);
    feed(['data: "b":2}', '', 'event: ping', 'data: {}', '', 'event: hits', 'data: {}']);
    expect(seen).toEqual([{ event: 'hits', data: '{"a":1,\n"b":2}' }, { event: 'ping', data: '{}' }]);
  });
});
