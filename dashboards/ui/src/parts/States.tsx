// Empty, loading and failed never look the same.

import type { ComponentChildren, JSX } from 'preact';
import type { ApiError } from '../api/client';
import type { Coverage } from '../api/types';
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

/** A partial answer says so, and why. */
export function Problems({ coverage }: { coverage: Coverage | null }): JSX.Element | null {
  if (!coverage || (coverage.complete && coverage.problems.length === 0)) return null;
  const n = coverage.problems.length;
  return (
    <details class="partial">
      <summary><Icon name="warn" /> Partial answer{n ? `: ${n} ${n === 1 ? 'problem' : 'problems'}` : ''}</summary>
      <ul>
        {coverage.problems.map((p, i) => <li key={i}><strong>{p.kind}</strong> {p.what}: {p.message}</li>)}
        {n === 0 ? <li>The server could not read all of the range and gave no reason.</li> : null}
      </ul>
    </details>
  );
}
