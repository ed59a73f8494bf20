import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { TraceColumns } from '../api/types';
import { ancestors, axisMarks, canFold, isLogRow, labelPlace, logOfRow, nextError, originError, readTrace, rowOfLog, selfTimes, shiftLevel, visibleRows } from './model';

interface Span {
  parent: number;
  error?: boolean;
  start?: number;
  length?: number;
}

/** A trace of spans given in depth-first order and of logs given by their span. */
function traceOf(spans: Span[], logs: { span: number; severity?: string }[] = []): ReturnType<typeof readTrace> {
  const depth: number[] = [];
  spans.forEach((s, i) => { depth[i] = s.parent < 0 ? 0 : depth[s.parent]! + 1; });
  const n = spans.length;
  const columns: TraceColumns = {
    trace_id: 'a', xray_trace_id: '1-a', start_unix_nano: '1000', duration_nano: 1000, services: ['x'], n_spans: n, n_logs: logs.length, n_errors: 0,
    spans: {
      span_id: spans.map((_, i) => `s${i}`), parent: spans.map((s) => s.parent), depth, start_offset_nano: spans.map((s) => s.start ?? 0), duration_nano: spans.map((s) => s.length ?? 10),
      service: spans.map(() => 0), name: spans.map(() => 'op'), kind: spans.map(() => 'SERVER'), status_code: spans.map((s) => (s.error ? 'ERROR' : 'UNSET')),
      n_logs: spans.map(() => 0), missing_parent: spans.map(() => false), skewed: spans.map(() => false), in_progress: spans.map(() => false),
    },
    logs: {
      id: logs.map((_, i) => `l${i}`), time_unix_nano: logs.map(() => '1000'), offset_nano: logs.map(() => 0), span: logs.map((l) => l.span),
      severity: logs.map((l) => l.severity ?? 'INFO'), service: logs.map(() => 0), body: logs.map(() => 'text'),
    },
    coverage: {} as TraceColumns['coverage'], took_ms: 1,
  };
  return readTrace(columns);
}

/** Any forest in depth-first order: each span's parent is the one before it or one of that one's ancestors. */
const forest = fc.array(fc.nat(), { maxLength: 60 }).map((steps) => {
  const spans: Span[] = [];
  for (const step of steps) {
    const chain: number[] = [-1];
    for (let p = spans.length - 1; p >= 0; p = spans[p]!.parent) chain.push(p);
    spans.push({ parent: chain[step % chain.length]! });
  }
  return spans;
});

describe('the tree', () => {
  test('subtrees are the spans that have the span above them', () => {
    fc.assert(fc.property(forest, (spans) => {
      const t = traceOf(spans);
      for (let i = 0; i < t.n; i++) {
        const below = spans.map((_, k) => k).filter((k) => ancestors(t, k).includes(i));
        expect(below).toEqual(Array.from({ length: t.end[i]! - i - 1 }, (_, k) => i + 1 + k));
      }
    }));
  });

  test('each span and each log is a row exactly once; folding hides exactly what is below', () => {
    fc.assert(fc.property(forest, fc.array(fc.integer({ min: -1, max: 59 }), { maxLength: 30 }), fc.array(fc.nat(59)), (spans, logs, folded) => {
      const t = traceOf(spans, logs.map((span) => ({ span: span < spans.length ? span : -1 })));
      const all = [...visibleRows(t, new Set(), '')];
      expect([...all].sort((a, b) => a - b)).toEqual([...t.logs.id.map((_, l) => rowOfLog(l)), ...spans.map((_, i) => i)].sort((a, b) => a - b));
      const shut = new Set(folded.filter((i) => i < t.n));
      const hidden = (row: number): boolean => {
        const span = isLogRow(row) ? t.logs.span[logOfRow(row)]! : row;
        if (span < 0) return false;
        return ancestors(t, span).some((a) => shut.has(a)) || (isLogRow(row) && shut.has(span));
      };
      expect([...visibleRows(t, shut, '')]).toEqual(all.filter((r) => !hidden(r)));
    }));
  });

  test('a log stands right beneath the span that wrote it; one of no span at the foot', () => {
    const t = traceOf([{ parent: -1 }, { parent: 0 }], [{ span: 1 }, { span: 0 }, { span: -1 }]);
    expect([...visibleRows(t, new Set(), '')]).toEqual([0, rowOfLog(1), 1, rowOfLog(0), rowOfLog(2)]);
  });

  test('log rows: all, warnings and worse, none', () => {
    const t = traceOf([{ parent: -1 }], [{ span: 0 }, { span: 0, severity: 'WARN' }, { span: 0, severity: 'ERROR' }]);
    expect(visibleRows(t, new Set(), '')).toHaveLength(4);
    expect([...visibleRows(t, new Set(), 'low')]).toEqual([0, rowOfLog(1), rowOfLog(2)]);
    expect([...visibleRows(t, new Set(), 'logs')]).toEqual([0]);
  });

  test('a trace of logs only has their rows', () => {
    const t = traceOf([], [{ span: -1 }]);
    expect([...visibleRows(t, new Set(), '')]).toEqual([rowOfLog(0)]);
  });

  test('parents in a circle do not hang the page', () => {
    const t = traceOf([{ parent: -1 }, { parent: 0 }]);
    t.parent[0] = 1;
    expect(ancestors(t, 1).length).toBeLessThanOrEqual(2);
  });

  test('levels fold from the deepest and unfold from the top', () => {
    const t = traceOf([{ parent: -1 }, { parent: 0 }, { parent: 1 }]);
    const once = shiftLevel(t, new Set(), 'fold');
    expect([...once]).toEqual([1]);
    const twice = shiftLevel(t, once, 'fold');
    expect([...twice].sort()).toEqual([0, 1]);
    expect([...shiftLevel(t, twice, 'unfold')]).toEqual([1]);
    expect(canFold(t, 2)).toBe(false);
  });
});

describe('times and errors', () => {
  test('self time is the part that no child covers', () => {
    expect([...selfTimes([-1, 0, 0, 0], [0, 10, 20, 90], [100, 20, 20, 50])]).toEqual([60, 20, 20, 50]);
  });

  test('self time is never negative nor above the duration', () => {
    fc.assert(fc.property(forest, fc.infiniteStream(fc.nat(100)), (spans, numbers) => {
      const next = (): number => numbers.next().value as number;
      const start = spans.map(next);
      const length = spans.map(next);
      const self = selfTimes(spans.map((s) => s.parent), start, length);
      self.forEach((s, i) => {
        expect(s).toBeGreaterThanOrEqual(0);
        expect(s).toBeLessThanOrEqual(length[i]!);
      });
    }));
  });

  test('the first jump goes to where the error began, the next in display order and around', () => {
    const t = traceOf([{ parent: -1, error: true, length: 100 }, { parent: 0, error: true, length: 90 }, { parent: 1, error: true, length: 50 }, { parent: 0, error: true, start: 95, length: 2 }]);
    expect(originError(t)).toBe(2);
    expect(nextError(t, -1, 1)).toBe(2);
    expect(nextError(t, 2, 1)).toBe(3);
    expect(nextError(t, 3, 1)).toBe(0);
    expect(nextError(t, 0, -1)).toBe(3);
    expect(nextError(traceOf([{ parent: -1 }]), -1, 1)).toBe(-1);
  });

  test('axis marks are round and inside', () => {
    expect(axisMarks(0, 10e9, 4)).toEqual([0, 2.5e9, 5e9, 7.5e9]);
    expect(axisMarks(1.2e6, 1.9e6, 4)).toEqual([1.2e6, 1.4e6, 1.6e6, 1.8e6]);
    expect(axisMarks(0, 71_000e9, 4)).toEqual([0, 6, 12, 18].map((h) => h * 3600e9));
    expect(axisMarks(0, 50e9, 4)).toEqual([0, 15e9, 30e9, 45e9]);
    expect(axisMarks(0, 5 * 60e9, 4)).toEqual([0, 120e9, 240e9]);
    expect(axisMarks(0, 20 * 86_400e9, 4)).toEqual([0, 5, 10, 15].map((d) => d * 86_400e9));
  });

  test('axis marks are one to nine, of a whole number of steps, whatever the range', () => {
    fc.assert(fc.property(fc.integer({ min: 1, max: 1e15 }), (end) => {
      const marks = axisMarks(0, end, 4);
      expect(marks.length).toBeGreaterThanOrEqual(1);
      expect(marks.length).toBeLessThanOrEqual(4);
      expect(marks[0]).toBe(0);
    }));
  });

  test('a duration stands beside its bar and clear of ticks', () => {
    expect(labelPlace(50, 0, 500, 560, [])).toBe(500);
    expect(labelPlace(50, 200, 520, 560, [])).toBe(150);
    expect(labelPlace(50, 200, 500, 560, [510])).toBe(150);
    expect(labelPlace(50, 20, 400, 560, [410])).toBe(412);
    // nowhere is free: right of the bar, as far as there is room
    expect(labelPlace(50, 0, 540, 560, [])).toBe(510);
  });

  test('a duration covers neither bar nor tick where any place is free', () => {
    const px = fc.integer({ min: 0, max: 500 });
    fc.assert(fc.property(px, px, fc.array(px, { maxLength: 4 }), (a, b, ticks) => {
      const [left, right] = [Math.min(a, b), Math.max(a, b)];
      const at = labelPlace(60, left, right, 560, ticks);
      expect(at).toBeGreaterThanOrEqual(0);
      expect(at + 60).toBeLessThanOrEqual(560);
      expect(at >= right || at + 60 <= left).toBe(true);
    }));
  });

  test('a hundred thousand spans are laid out in a blink', () => {
    const spans: Span[] = Array.from({ length: 100_000 }, (_, i) => ({ parent: i === 0 ? -1 : Math.floor((i - 1) / 1) - ((i - 1) % 40) }));
    const t = traceOf(spans);
    expect(visibleRows(t, new Set(), '')).toHaveLength(100_000);
  });
});
