// Which of several alerts in one state is read first.

import type { Alert } from '../api/types';

/** A rule's severity is free text; these are the words that teams use. What is not among them counts as a warning, the default of a rule. */
const RANKS: readonly (readonly string[])[] = [
  ['critical', 'crit', 'fatal', 'emergency', 'page', 'p0', 'p1', 'sev0', 'sev1'],
  ['error', 'high', 'major', 'p2', 'sev2'],
  ['warning', 'warn', 'medium', 'minor', 'p3', 'sev3'],
  ['info', 'information', 'low', 'notice', 'p4', 'p5', 'sev4', 'sev5'],
];
const WARNING = 2;

function rank(severity: string): number {
  const at = RANKS.findIndex((words) => words.includes(severity.trim().toLowerCase()));
  return at < 0 ? WARNING : at;
}

/** The most severe first, of those the newest first. */
export function worstFirst(a: Alert, b: Alert): number {
  const since = (x: Alert): bigint => BigInt(x.since_unix_nano ?? 0);
  const newer = since(b) - since(a);
  return rank(a.severity) - rank(b.severity) || (newer > 0n ? 1 : newer < 0n ? -1 : 0);
}
