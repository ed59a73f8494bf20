import { expect, test } from 'vitest';
import type { Coverage } from '../api/types';
import { Notes, Problems } from './States';

const coverage = (complete: boolean, n: number): Coverage => ({
  start_unix_nano: '0', end_unix_nano: '1', blocks_total: 0, blocks_read: 0, blocks_pruned: 0, bytes_read: 0, store_gets: 0, store_bytes: 0, head_rows: 0, rows_matched_at_least: 0,
  complete, problems: Array.from({ length: n }, () => ({ kind: 'limit', what: 'a bound', message: 'it was met' })),
});

test('an answer that is not complete warns, with or without a reason; what is told beside a complete one is a note', () => {
  expect([Problems, Notes].map((part) => [coverage(true, 0), coverage(true, 1), coverage(false, 0), coverage(false, 1)].map((c) => part({ coverage: c }) !== null)))
    .toEqual([[false, false, true, true], [false, true, false, false]]);
});
