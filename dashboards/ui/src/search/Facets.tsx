// Counts of the most telling fields; a click makes a filter pill.

import type { JSX } from 'preact';
import type { Facets as Data } from '../api/types';
import { Icon } from '../parts/icons';
import { count } from '../text/number';
import { type Pill, queryField } from '../text/query';
import { CLASSES, letter, severityClass } from '../text/severity';

const TITLES: Record<string, string> = { severity: 'Severity', service_name: 'Service', aws_log_group: 'Log group' };

interface Props {
  data: Data | null;
  pills: readonly Pill[];
  onToggle(pill: Pill): void;
}

export function Facets({ data, pills, onToggle }: Props): JSX.Element {
  if (!data) return <div class="facets" aria-hidden="true" />;
  return (
    <aside class="facets" aria-label="Fields" tabIndex={0}>
      {data.facets.map((facet) => {
        const field = queryField(facet.field);
        const top = Math.max(1, ...facet.values.map((v) => v.count));
        // Severities stand in their own order, worst first; the rest by count, as the server sends them.
        const values = facet.field === 'severity'
          ? [...facet.values].sort((a, b) => CLASSES.indexOf(b.value as (typeof CLASSES)[number]) - CLASSES.indexOf(a.value as (typeof CLASSES)[number]))
          : facet.values;
        if (values.length === 0) return null;
        return (
          <section key={facet.field}>
            <h2>{TITLES[facet.field] ?? facet.field}</h2>
            <ul>
              {values.map(({ value, count: n }) => {
                const on = pills.find((p) => p.field === field && p.value === value && !p.off);
                const share = { width: `${Math.max(1, (n / top) * 100)}%` };
                return (
                  <li key={value} class={`facet${on ? ` on ${on.sign === '-' ? 'neg' : ''}` : ''}`}>
                    <span class="facet-bar" style={share} />
                    <button type="button" class="facet-value" aria-pressed={on?.sign === '+'} onClick={() => onToggle({ sign: '+', field, value, off: false })} title={value}>
                      {facet.field === 'severity' ? <b class={`letter ${severityClass(value)}`} aria-hidden="true">{letter(value)}</b> : null}
                      <span class="facet-name">{value}</span>
                      <span class="facet-count">{count(n)}</span>
                    </button>
                    <button type="button" class="icon-button facet-not" aria-pressed={on?.sign === '-'} aria-label={`Exclude ${value}`} title="Exclude" onClick={() => onToggle({ sign: '-', field, value, off: false })}>
                      <Icon name="minus" />
                    </button>
                  </li>
                );
              })}
              {facet.truncated ? <li class="facet-note">more values: narrow the search</li> : null}
              {facet.missing > 0 ? (
                <li class="facet">
                  <button type="button" class="facet-value none" onClick={() => onToggle({ sign: '-', field, value: '*', off: false })} title={`Lines without ${field}`}>
                    <span class="facet-name">none</span><span class="facet-count">{count(facet.missing)}</span>
                  </button>
                </li>
              ) : null}
            </ul>
          </section>
        );
      })}
    </aside>
  );
}
