import { z } from 'zod';
import { field, names, ownName, shortText } from './fields.ts';
import { Files } from './files.ts';
import { Budget, Limits } from './limits.ts';
import { requestSources } from './rules.ts';
import { Tools } from './tools.ts';

/**
 * What a run is opened with: recorded first, and the last layer. It can only narrow what the policy allows.
 */
export const Intent = z.strictObject({
  summary: field(z.string().max(4096), 'What the run is for, in a sentence.', ''),
  requirements: field(z.array(shortText).max(64).readonly(), 'What has to be so afterwards.', []),
  constraints: field(z.array(shortText).max(64).readonly(), 'What has to be left alone.', []),
  source: field(z.enum(requestSources), 'Where the request came from; escalators look at it.', 'person'),
  risk_tags: field(names(ownName), 'What whoever asks knows of the risk; escalators look at them.', []),
  model: field(z.string().max(100), 'Which model works; a lane may say which ones may.'),
  files: field(Files, 'Allowed files: a part of what the policy allows.'),
  tools: field(Tools, 'Allowed tools: a part of what the policy allows.'),
  egress: field(names(ownName), 'Allowed egress profiles: a part of what the policy allows.'),
  limits: field(Limits, 'At most what the policy gives.'),
  budget: field(Budget, 'At most what the policy gives.'),
});
export type Intent = z.infer<typeof Intent>;
/** As a caller writes it: sizes and durations with their units. */
export type IntentInput = z.input<typeof Intent>;
