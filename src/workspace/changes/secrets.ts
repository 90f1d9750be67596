/** The kind of secret that a text seems to hold. Bounded patterns over a bounded text: linear in its length. */
export function secretIn(text: string): string | undefined {
  return patterns.find(([, pattern]) => pattern.test(text))?.[0];
}

/** All that it seems to hold: of which kind, and what tells one from another. The first of each kind. */
export function secretsIn(text: string): readonly { readonly kind: string; readonly text: string }[] {
  return patterns.flatMap(([kind, pattern]) => {
    const found: { readonly kind: string; readonly text: string }[] = [];
    for (const { 0: match, index } of text.matchAll(new RegExp(pattern, 'g'))) {
      // Of a private key only the first line is matched, which all have in common.
      const more = kind === 'private key' ? keyCharsMax : 0;
      found.push({ kind, text: text.slice(index, index + match.length + more) });
      if (found.length >= perKindMax) break;
    }
    return found;
  });
}

const keyCharsMax = 40;
const perKindMax = 100;

const patterns: readonly (readonly [string, RegExp])[] = [
  ['private key', /-----BEGIN (?:[A-Z]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----/],
  ['AWS access key', /\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}\b/],
  ['GitHub token', /\b(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{22,82})/],
  ['GitLab token', /\bgl(?:pat|ptt|dt|rt|cbt|soat)-[A-Za-z0-9_-]{20}/],
  ['Slack token', /\bxox[abeoprs]-[A-Za-z0-9-]{10,60}/],
  ['Stripe key', /\b[rs]k_live_[A-Za-z0-9]{20}/],
  ['Google API key', /\bAIza[A-Za-z0-9_-]{35}/],
  ['npm token', /\bnpm_[A-Za-z0-9]{36}\b|\/\/[\w.:/-]{1,100}:_authToken=[^\s$]/],
  ['model provider key', /\bsk-(?:ant-|proj-|or-)?[A-Za-z0-9_-]{32}/],
  ['JSON web token', /\beyJ[A-Za-z0-9_-]{10,200}\.eyJ[A-Za-z0-9_-]{10,400}\.[A-Za-z0-9_-]{10}/],
  ['password in a URL', /\b[a-z][a-z0-9+.-]{1,12}:\/\/[^\s/:@'"<>{}$]{1,64}:[^\s/:@'"<>{}$*]{3,64}@[\w.-]{3}/],
];
