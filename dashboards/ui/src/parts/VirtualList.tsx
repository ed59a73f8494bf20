// A scrolled list of fixed-height rows of which only the visible ones exist.

import { useSignal } from '@preact/signals';
import type { ComponentChildren, JSX } from 'preact';
import { useEffect, useLayoutEffect, useRef } from 'preact/hooks';
import { scrollFor, windowOf } from './virtual';

export interface ListHandle {
  /** Scrolls as little as needed to show a row, or puts it in the middle. */
  reveal(row: number, middle?: boolean): void;
  scrollTo(top: number): void;
  scrollToEnd(): void;
  scrollTop(): number;
  atEnd(): boolean;
  /** Whole rows that fit. */
  pageSize(): number;
  focus(): void;
}

interface Props {
  count: number;
  rowHeight: number;
  row(index: number): ComponentChildren;
  handle?: { current: ListHandle | null };
  role: 'grid' | 'treegrid';
  label: string;
  /** The id of the active row's element; the list is one tab stop. */
  active?: string | undefined;
  class?: string;
  columns: number;
  header?: ComponentChildren;
  onScroll?(top: number, atEnd: boolean): void;
  /** Called when fewer than two screens are left below. */
  onNearEnd?(): void;
  onKeyDown?(event: KeyboardEvent): void;
  onClick?(event: MouseEvent): void;
  onPointerDown?(event: PointerEvent): void;
  footer?: ComponentChildren;
}

export function VirtualList(props: Props): JSX.Element {
  const { count, rowHeight, handle } = props;
  const box = useRef<HTMLDivElement>(null);
  const height = useSignal(800);
  const first = useSignal(0);
  const latest = useRef(props);
  latest.current = props;

  const place = (): void => {
    const el = box.current;
    if (!el) return;
    const { count: n, onNearEnd } = latest.current;
    first.value = windowOf(el.scrollTop, el.clientHeight, rowHeight, n).first;
    if (onNearEnd && n * rowHeight - el.scrollTop < 3 * el.clientHeight) onNearEnd();
  };

  useLayoutEffect(() => {
    const el = box.current;
    if (!el) return;
    const seen = new ResizeObserver(() => {
      height.value = el.clientHeight;
      place();
    });
    seen.observe(el);
    height.value = el.clientHeight;
    return () => seen.disconnect();
  }, []);
  useEffect(place, [count]);

  useLayoutEffect(() => {
    if (!handle) return;
    handle.current = {
      reveal(row, middle) {
        const el = box.current;
        if (!el) return;
        const to = scrollFor(row, el.scrollTop, el.clientHeight, rowHeight);
        if (to === null) return;
        el.scrollTop = middle ? Math.max(0, row * rowHeight - el.clientHeight / 2) : to;
        place();
      },
      scrollTo(top) {
        if (box.current) box.current.scrollTop = top;
        place();
      },
      scrollToEnd() {
        if (box.current) box.current.scrollTop = box.current.scrollHeight;
        place();
      },
      scrollTop: () => box.current?.scrollTop ?? 0,
      atEnd: () => atEnd(box.current),
      pageSize: () => Math.max(1, Math.floor((box.current?.clientHeight ?? rowHeight) / rowHeight)),
      focus: () => box.current?.focus({ preventScroll: true }),
    };
    return () => {
      handle.current = null;
    };
  }, [handle]);

  const { end } = windowOf(first.value * rowHeight, height.value, rowHeight, count);
  const from = Math.min(first.value, Math.max(0, count - 1));
  const rows: ComponentChildren[] = [];
  for (let i = from; i < Math.min(count, end + 8); i++) rows.push(props.row(i));

  return (
    <div
      ref={box}
      class={`virtual ${props.class ?? ''}`}
      role={props.role}
      aria-label={props.label}
      aria-rowcount={count}
      aria-colcount={props.columns}
      aria-activedescendant={props.active}
      tabIndex={0}
      onScroll={() => {
        place();
        if (box.current) props.onScroll?.(box.current.scrollTop, atEnd(box.current));
      }}
      onKeyDown={props.onKeyDown}
      onClick={props.onClick}
      onPointerDown={props.onPointerDown}
    >
      <div role="presentation" class="virtual-space" style={{ height: `${count * rowHeight}px` }}>
        <div role="rowgroup" class="virtual-rows" style={{ transform: `translateY(${from * rowHeight}px)` }}>
          {rows}
        </div>
      </div>
      {props.footer}
    </div>
  );
}

function atEnd(el: HTMLElement | null): boolean {
  return !el || el.scrollHeight - el.scrollTop - el.clientHeight < 24;
}
