// One field of a record: name, value, and what can be done with it. `f` and `F` act on the focused one.

import type { JSX } from 'preact';
import { Icon } from '../parts/icons';
import { copy } from '../state/notices';

export interface FieldActions {
  filter(sign: '+' | '-', field: string, value: string): void;
  column(field: string): void;
  /** Names of the columns that are shown. */
  shown: readonly string[];
}

interface Props {
  name: string;
  /** The name in the search language; null = the field cannot be searched. */
  field: string | null;
  value: string;
  kind?: 'string' | 'number' | 'other';
  actions: FieldActions;
  link?: { href: string; label: string } | undefined;
}

export function FieldRow({ name, field, value, kind = 'string', actions, link }: Props): JSX.Element {
  const long = value.length > 2000;
  return (
    <div class="field" data-field={field ?? undefined} data-value={value}>
      <span class="field-name" title={field ?? name}>{name}</span>
      <span class={`field-value ${kind}`}>
        {link ? <a href={link.href} title={link.label}>{value}</a> : long ? <LongValue value={value} /> : value || <span class="muted">(empty)</span>}
      </span>
      <span class="field-actions">
        {field ? (
          <>
            <button type="button" class="icon-button" aria-label={`Only ${name} = ${short(value)}`} title="Only this value (f)" onClick={() => actions.filter('+', field, value)}><Icon name="plus" /></button>
            <button type="button" class="icon-button" aria-label={`Not ${name} = ${short(value)}`} title="Not this value (F)" onClick={() => actions.filter('-', field, value)}><Icon name="minus" /></button>
            <button type="button" class="icon-button" aria-pressed={actions.shown.includes(field)} aria-label={`Column ${name}`} title="Show as a column" onClick={() => actions.column(field)}><Icon name="column" /></button>
          </>
        ) : null}
        <button type="button" class="icon-button" aria-label={`Copy ${name}`} title="Copy" onClick={() => void copy(value, name)}><Icon name="copy" /></button>
      </span>
    </div>
  );
}

const short = (value: string): string => (value.length > 40 ? `${value.slice(0, 40)}…` : value);

function LongValue({ value }: { value: string }): JSX.Element {
  return (
    <details class="long"><summary>{value.slice(0, 200)}… ({value.length.toLocaleString('en-US')} characters)</summary><pre>{value}</pre></details>
  );
}
