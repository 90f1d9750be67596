import type { SourceFile } from '../language/source-file.ts';
import type { ContextTerms } from './effective-policy.ts';

/** What all layers ask for together: each of them adds, and the shortest age holds. */
export function contextOf(chain: readonly SourceFile[]): { readonly context?: ContextTerms } {
  const said = chain.flatMap(({ file }) => (file.context === undefined ? [] : [file.context]));
  if (said.length === 0) return {};
  const ages = said.flatMap(({ max_age_calls: age }) => age ?? []);
  return {
    context: {
      freshBefore: [...new Set(said.flatMap(({ fresh_before: names = [] }) => names))],
      maxAgeCalls: ages.length === 0 ? null : Math.min(...ages),
      ...(said.some(({ attribution }) => attribution === 'exact') ? { attribution: 'exact' } : {}),
    },
  };
}

/** A longer age than a file above gives, and a name that no call can have. */
export function contextProblems(chain: readonly SourceFile[], index: number): readonly string[] {
  const source = chain[index];
  const context = source?.file.context;
  if (source === undefined || context === undefined) return [];
  const known = chain.slice(0, index + 1);
  const names = [...new Set([...known.flatMap(({ file }) => namesIn(file)), 'write_ask'])];
  const unknown = (context.fresh_before ?? []).flatMap((name, at) =>
    names.includes(name)
      ? []
      : [
          `${source.placeOf(['context', 'fresh_before', at])}: context.fresh_before: no category of approvals and no tag of a command is ${JSON.stringify(name)}; there are: ${names.join(', ')}`,
        ],
  );
  const age = context.max_age_calls;
  const above = chain.slice(0, index).find(({ file }) => (file.context?.max_age_calls ?? Infinity) < (age ?? 0));
  if (above === undefined) return unknown;
  const place = above.placeOf(['context', 'max_age_calls']);
  return [
    ...unknown,
    `${source.placeOf(['context', 'max_age_calls'])}: context.max_age_calls: ${age} is more than what ${place} allows; a lower layer can only narrow`,
  ];
}

/** What a call can be: in need of an approval of a category, or with a tag. */
function namesIn({ approvals, commands = [] }: SourceFile['file']): readonly string[] {
  return [...Object.keys(approvals?.categories ?? {}), ...commands.flatMap(({ tags = [] }) => tags)];
}
