// The filter pills below the query: flip, change, switch off, remove, all in place.

import { useSignal } from '@preact/signals';
import type { JSX } from 'preact';
import { useEffect, useRef } from 'preact/hooks';
import { Icon } from '../parts/icons';
import type { Pill } from '../text/query';

interface Props {
  pills: readonly Pill[];
  onChange(pills: Pill[]): void;
}

const words = (p: Pill): string => {
  if (p.value === '*') return p.sign === '-' ? `no ${p.field}` : `has ${p.field}`;
  return `${p.sign === '-' ? 'NOT ' : ''}${p.field} = ${p.value}`;
};

export function Pills({ pills, onChange }: Props): JSX.Element {
  const editing = useSignal(-1);
  const change = (i: number, to: Partial<Pill>): void => onChange(pills.map((p, k) => (k === i ? { ...p, ...to } : p)));
  const remove = (i: number): void => {
    editing.value = -1;
    onChange(pills.filter((_, k) => k !== i));
  };
  return (
    <>
      {pills.map((p, i) => (
        <span key={`${p.field}:${p.value}`} class={`pill${p.sign === '-' ? ' neg' : ''}${p.off ? ' off' : ''} menu-box`}>
          <button type="button" class="pill-text" aria-expanded={editing.value === i} aria-label={`Filter ${words(p)}${p.off ? ', off' : ''}: change`} onClick={() => { editing.value = editing.value === i ? -1 : i; }}>{words(p)}</button>
          <button type="button" class="icon-button" aria-label={`Remove the filter ${words(p)}`} onClick={() => remove(i)}><Icon name="close" /></button>
          {editing.value === i ? <Editor pill={p} onClose={() => { editing.value = -1; }} onChange={(to) => change(i, to)} onRemove={() => remove(i)} /> : null}
        </span>
      ))}
    </>
  );
}

function Editor({ pill, onClose, onChange, onRemove }: { pill: Pill; onClose(): void; onChange(to: Partial<Pill>): void; onRemove(): void }): JSX.Element {
  const box = useRef<HTMLFormElement>(null);
  const value = useSignal(pill.value);
  useEffect(() => {
    box.current?.querySelector('input')?.focus();
    const outside = (e: Event): void => {
      if (!box.current?.parentElement?.contains(e.target as Node)) onClose();
    };
    addEventListener('pointerdown', outside);
    return () => removeEventListener('pointerdown', outside);
  }, []);
  return (
    <form
      ref={box}
      class="menu pill-menu"
      onSubmit={(e) => {
        e.preventDefault();
        onClose();
        onChange({ value: value.value });
      }}
      onKeyDown={(e) => {
        if (e.key !== 'Escape') return;
        e.stopPropagation();
        onClose();
      }}
    >
      <label>{pill.field}<input class="input" value={value.value} spellcheck={false} onInput={(e) => { value.value = e.currentTarget.value; }} /></label>
      <div class="buttons">
        <button type="submit" class="button primary">Set</button>
        <button type="button" class="button" onClick={() => { onClose(); onChange({ sign: pill.sign === '+' ? '-' : '+' }); }}>{pill.sign === '+' ? 'Exclude' : 'Include'}</button>
        <button type="button" class="button" onClick={() => { onClose(); onChange({ off: !pill.off }); }}>{pill.off ? 'Switch on' : 'Switch off'}</button>
        <button type="button" class="button" onClick={onRemove}>Remove</button>
      </div>
    </form>
  );
}
