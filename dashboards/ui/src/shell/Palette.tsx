// Ctrl K: pages, a pasted trace ID, a search, and the actions of this page.

import { signal, useSignal } from '@preact/signals';
import type { JSX } from 'preact';
import { useEffect, useRef } from 'preact/hooks';
import { go, href } from '../state/router';
import { findTraceId } from '../text/trace-id';
import { Dialog } from './Dialog';
import { groups } from './keys';

const open = signal(false);

export function openPalette(): void {
  open.value = true;
}

interface Entry {
  name: string;
  what: string;
  run(): void;
}

const PAGE_ENTRIES: readonly Entry[] = [
  { name: 'Logs', what: 'page', run: () => go(href('search', {})) },
  { name: 'Traces', what: 'page', run: () => go(href('traces', {})) },
  { name: 'Alerts', what: 'page', run: () => go(href('alerts', {})) },
];

function entriesFor(text: string): Entry[] {
  const typed = text.trim();
  const id = findTraceId(typed);
  const found: Entry[] = [];
  if (id) found.push({ name: `Open trace ${id}`, what: 'trace', run: () => go(href('trace', { id })) });
  const actions: Entry[] = groups.value.flatMap((g) =>
    g.actions.filter((a) => !a.key.startsWith('g ') && a.key !== 'mod+k').map((a) => ({ name: a.does, what: a.key.replace('Escape', 'Esc'), run: () => a.run(new KeyboardEvent('keydown', { key: a.key })) })),
  );
  const wanted = typed.toLowerCase();
  found.push(...[...PAGE_ENTRIES, ...actions].filter((e) => e.name.toLowerCase().includes(wanted)));
  if (typed) found.push({ name: `Search logs for ${typed}`, what: 'logs', run: () => go(href('search', { q: typed })) });
  return found;
}

export function Palette(): JSX.Element {
  return <Dialog open={open} label="Command palette" class="palette"><Body /></Dialog>;
}

function Body(): JSX.Element {
  const text = useSignal('');
  const at = useSignal(0);
  const input = useRef<HTMLInputElement>(null);
  useEffect(() => input.current?.focus(), []);
  const entries = entriesFor(text.value);
  const chosen = Math.min(at.value, entries.length - 1);
  const run = (entry: Entry | undefined): void => {
    open.value = false;
    // After the dialog has given the focus back, so that an action may move it.
    setTimeout(() => entry?.run());
  };
  return (
    <>
      <input
        ref={input}
        class="input palette-input"
        role="combobox"
        aria-expanded="true"
        aria-controls="palette-list"
        aria-activedescendant={chosen >= 0 ? `palette-${chosen}` : undefined}
        aria-label="Page, trace ID or action"
        placeholder="Page, trace ID in any form, or action"
        spellcheck={false}
        value={text.value}
        onInput={(e) => {
          text.value = e.currentTarget.value;
          at.value = 0;
        }}
        onKeyDown={(e) => {
          const step = e.key === 'ArrowDown' ? 1 : e.key === 'ArrowUp' ? -1 : 0;
          if (step) {
            e.preventDefault();
            at.value = (chosen + step + entries.length) % Math.max(1, entries.length);
            document.getElementById(`palette-${at.value}`)?.scrollIntoView({ block: 'nearest' });
          } else if (e.key === 'Enter') {
            e.preventDefault();
            run(entries[chosen]);
          }
        }}
      />
      <div id="palette-list" class="palette-list" role="listbox" aria-label="Found" tabIndex={-1}>
        {entries.map((e, i) => (
          <div key={`${e.what} ${e.name}`} id={`palette-${i}`} role="option" class="palette-entry" aria-selected={i === chosen} onClick={() => run(e)}>
            <span>{e.name}</span><span class="muted">{e.what}</span>
          </div>
        ))}
      </div>
    </>
  );
}
