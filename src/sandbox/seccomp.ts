export function seccompProfile(): unknown {
  return {};
}
