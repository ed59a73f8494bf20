// A JSON body as a tree: branches fold, leaves are fields that can be filtered by.

import { useSignal } from '@preact/signals';
import type { JSX } from 'preact';
import { Icon } from '../parts/icons';
import { type FieldActions, FieldRow } from './FieldRow';
import { Exact, type Json } from './hit';

/** Children shown of one branch before "show all". */
const FIRST_CHILDREN = 100;

interface Props {
  value: Json;
  /** The dotted name in the search language; list positions are not part of it. */
  path: string;
  depth: number;
  actions: FieldActions;
}

const isBranch = (v: Json): v is Json[] | { [key: string]: Json } => typeof v === 'object' && v !== null && !(v instanceof Exact);

export function JsonTree({ value, path, depth, actions }: Props): JSX.Element | null {
  const all = useSignal(false);
  if (!isBranch(value)) return null;
  const list = Array.isArray(value);
  const entries: [string, Json][] = list ? value.map((v, i) => [String(i), v]) : Object.entries(value);
  const seen = all.value ? entries : entries.slice(0, FIRST_CHILDREN);
  return (
    <div class={depth ? 'tree branch' : 'tree'}>
      {seen.map(([key, child]) => {
        const at = list ? path : path ? `${path}.${key}` : key;
        if (isBranch(child)) return <Branch key={key} name={key} value={child} path={at} depth={depth} actions={actions} />;
        return <FieldRow key={key} name={key} field={at || null} value={leafText(child)} kind={typeof child === 'string' ? 'string' : child instanceof Exact || typeof child === 'number' ? 'number' : 'other'} actions={actions} />;
      })}
      {seen.length < entries.length ? <button type="button" class="link-button" onClick={() => { all.value = true; }}>show all {entries.length}</button> : null}
    </div>
  );
}

function leafText(value: Json): string {
  if (value instanceof Exact) return value.text;
  return typeof value === 'string' ? value : JSON.stringify(value);
}

function Branch({ name, value, path, depth, actions }: { name: string; value: Json[] | { [key: string]: Json }; path: string; depth: number; actions: FieldActions }): JSX.Element {
  const open = useSignal(depth < 2);
  const size = Array.isArray(value) ? value.length : Object.keys(value).length;
  return (
    <div>
      <button type="button" class="branch-name" aria-expanded={open.value} onClick={() => { open.value = !open.value; }}>
        <Icon name={open.value ? 'down' : 'right'} />{name} <span class="muted">{Array.isArray(value) ? `[${size}]` : `{${size}}`}</span>
      </button>
      {open.value ? <JsonTree value={value} path={path} depth={depth + 1} actions={actions} /> : null}
    </div>
  );
}
