import { expect, test } from 'vitest';
import type { Alert } from '../api/types';
import { worstFirst } from './order';

const alert = (id: string, severity: string, since: string | null): Alert => ({ id, severity, since_unix_nano: since }) as Alert;

test('the most severe first, of those the newest first; an unknown severity counts as a warning', () => {
  const given = [
    alert('quiet', 'info', '1795470785923692032'), alert('old warning', 'warning', '999'), alert('new warning', 'Warn', '1795470785923692031'), alert('ours', 'team-blue', '1795470785923692030'),
    alert('old critical', 'critical', '5'), alert('new critical', 'CRITICAL', '1000'), alert('never', 'critical', null),
  ];
  expect(given.sort(worstFirst).map((a) => a.id)).toEqual(['new critical', 'old critical', 'never', 'new warning', 'ours', 'old warning', 'quiet']);
});
