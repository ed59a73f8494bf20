// Severity is always a letter, a bar and a colour, never colour alone; a service is always a name and one of eight colours.

export const CLASSES = ['UNSET', 'TRACE', 'DEBUG', 'INFO', 'WARN', 'ERROR', 'FATAL'] as const;

/** The letter of a class; a record without severity has a middle dot. */
export const letter = (severity: string): string => (severity && severity !== 'UNSET' ? severity.charAt(0) : '·');

/** The CSS class that carries the colour. Span statuses use the same names. */
export const severityClass = (severity: string): string => `sev-${(severity || 'UNSET').toLowerCase()}`;

export const isProblem = (severity: string): boolean => severity === 'ERROR' || severity === 'FATAL';
export const isWarning = (severity: string): boolean => severity === 'WARN' || isProblem(severity);

/** One of `svc-1` … `svc-8`: a hash of the name, so that a service has one colour on all pages and days. */
export function serviceClass(name: string): string {
  // This start gives the demo's eight services eight colours.
  let hash = 56486;
  for (let i = 0; i < name.length; i++) hash = Math.imul(hash ^ name.charCodeAt(i), 0x01000193);
  hash ^= hash >>> 15;
  return `svc-${((hash >>> 0) % 8) + 1}`;
}
