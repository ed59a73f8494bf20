import { afterEach, expect, test, vi } from 'vitest';
import { fetchPage, rowOfTrace } from './found';

const trace = { trace_id: 'a', time_unix_nano: '5', duration_nano: 0, root_service: null, root_name: null, has_error: false, has_fault: false, is_partial: true, error_count: 0, missing_parents: 1 };

afterEach(() => vi.unstubAllGlobals());

test('a trace whose root was not received is a row, and says so', () => {
  expect(rowOfTrace(trace)).toMatchObject({ trace: 'a', span: '', service: '', failed: '', missingParent: true, inProgress: true });
  expect(rowOfTrace({ ...trace, error_count: 2 }).failed).toBe('2 spans failed');
});

test('an answer without a trace but with a cursor is followed, over the range that was asked for first; what an answer lacked is kept', async () => {
  const coverage = { start_unix_nano: '10', end_unix_nano: '20', problems: [] };
  const answers = [{ traces: [], next_cursor: 'c1', coverage: { ...coverage, complete: false } }, { traces: [trace], next_cursor: 'c2', coverage: { ...coverage, complete: true } }];
  const asked: string[] = [];
  vi.stubGlobal('fetch', (url: string) => {
    asked.push(url);
    return Promise.resolve(new Response(JSON.stringify(answers.shift())));
  });
  const page = await fetchPage({ kind: 'roots', q: 'x', start: '-1h', end: 'now' }, null, new AbortController().signal);
  expect([page.rows.length, page.cursor, page.coverage.complete]).toEqual([1, 'c2', false]);
  expect(asked.map((u) => Object.fromEntries(new URLSearchParams(u.split('?')[1])))).toEqual([
    { q: 'x', start: '-1h', end: 'now', limit: '100' }, { q: 'x', start: '10', end: '20', cursor: 'c1', limit: '100' },
  ]);
});
