/** The value of a key, and which layer decided it. */
export interface Held<T> {
  readonly value: T;
  readonly layer: string;
  /** `source:line:column`, or `default`. */
  readonly place: string;
}
