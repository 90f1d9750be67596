/** What a reviewer wants to know about a change before reading it. A change may have several; `source` is what is left. */
export const categoryNames = [
  'execution_bearing',
  'secret_looking',
  'dependency',
  'configuration',
  'generated',
  'binary',
  'test',
  'documentation',
  'source',
] as const;
export type Category = (typeof categoryNames)[number];
