// Empty, loading and failed never look the same.

import type { ComponentChildren, JSX } from 'preact';
import type { ApiError } from '../api/client';
import type { Coverage } from '../api/types';
import { count, plural } from '../text/number';
import { Icon } from './icons';

/** Only shown when there is no older content to keep. */
export function Loading({ rows, label }: { rows: number; label: string }): JSX.Element {
  return (
    <div class="skeleton" role="status" aria-label={label}>
      {Array.from({ length: rows }, (_, i) => <div key={i} class={`skeleton-row w${i % 4}`} />)}
    </div>
  );
}

export function Empty({ title, children }: { title: string; children?: ComponentChildren }): JSX.Element {
  return (
    <div class="empty" role="status">
      <h2>{title}</h2>
      {children}
    </div>
  );
}

/** The server's message and hint. The old result stays below it. */
export function Failure({ error, children, onRetry }: { error: ApiError; children?: ComponentChildren; onRetry?: () => void }): JSX.Element {
  return (
    <div class="failure" role="alert">
      <Icon name="warn" />
      <div>
        <p><strong>{error.message}</strong>{error.code && error.code !== 'http' ? <code class="code">{error.code}</code> : null}</p>
        {children}
        {error.hint ? <p class="muted">{error.hint}</p> : null}
      </div>
      {onRetry ? <button type="button" class="button" onClick={onRetry}>Try again</button> : null}
    </div>
  );
}

function told(coverage: Coverage): JSX.Element[] {
  const lines = coverage.problems.map((p, i) => <li key={i}><strong>{p.kind}</strong> {p.what}: {p.message}</li>);
  if (coverage.further_problems) lines.push(<li key="more">and {count(coverage.further_problems)} more</li>);
  return lines;
}

/** A partial answer says so, and why. What is told beside a complete one is no warning: see Notes. */
export function Problems({ coverage }: { coverage: Coverage | null }): JSX.Element | null {
  if (!coverage || coverage.complete) return null;
  const n = coverage.problems.length + (coverage.further_problems ?? 0);
  return (
    <details class="partial">
      <summary><Icon name="warn" /> Partial answer{n ? `: ${plural(n, 'problem')}` : ''}</summary>
      <ul>
        {told(coverage)}
        {n === 0 ? <li>The server could not read all of the range and gave no reason.</li> : null}
      </ul>
    </details>
  );
}

/** What the server tells beside a complete answer, such as how far it looked for what may belong to it. */
export function Notes({ coverage }: { coverage: Coverage | null }): JSX.Element | null {
  if (!coverage?.complete || coverage.problems.length === 0) return null;
  return (
    <details class="partial quiet">
      <summary>{plural(coverage.problems.length + (coverage.further_problems ?? 0), 'note')} on this answer</summary>
      <ul>{told(coverage)}</ul>
    </details>
  );
}
