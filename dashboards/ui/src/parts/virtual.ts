// Which rows of a long list exist in the page. Pure, so that it can be tested without a browser.

export interface Window {
  /** First row that exists. */
  first: number;
  /** One past the last row that exists. */
  end: number;
}

/** Rows kept above and below the visible ones, so that a scroll step shows no gap. */
export const OVERSCAN = 8;

export function windowOf(scrollTop: number, height: number, rowHeight: number, count: number): Window {
  const top = Math.max(0, Math.floor(scrollTop / rowHeight) - OVERSCAN);
  // The start moves in steps of four rows, so that most scroll events change nothing.
  const first = Math.max(0, Math.min(top - (top % 4), Math.max(0, count - 1)));
  const shown = Math.ceil(height / rowHeight) + 2 * OVERSCAN + 4;
  return { first: count === 0 ? 0 : first, end: Math.min(count, first + shown) };
}

/** Where to scroll so that `row` is wholly visible; null if it already is. */
export function scrollFor(row: number, scrollTop: number, height: number, rowHeight: number): number | null {
  const top = row * rowHeight;
  if (top < scrollTop) return top;
  if (top + rowHeight > scrollTop + height) return top + rowHeight - height;
  return null;
}
