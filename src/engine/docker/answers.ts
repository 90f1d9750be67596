import * as z from 'zod';

/** The parts of the engine's answers that we read. Anything else in them is ignored, except where `readback.ts` looks. */
const names = z.record(z.string(), z.string());
const orEmpty = <T extends z.ZodType>(schema: T) => schema.nullish().transform((value) => value ?? undefined);

export const createAnswer = z.object({
  Id: z.string().regex(/^[0-9a-f]{12,64}$/),
  Warnings: orEmpty(z.array(z.string())),
});

export type ContainerAnswer = z.infer<typeof containerAnswer>;
export const containerAnswer = z.object({
  Id: z.string(),
  Name: z.string(),
  Created: z.string(),
  Image: z.string(),
  State: z.object({
    Status: z.string(),
    ExitCode: z.number(),
    OOMKilled: z.boolean(),
    StartedAt: z.string().optional(),
    Error: z.string().optional(),
    Pid: orEmpty(z.number()),
  }),
  Config: z.looseObject({
    Env: z
      .array(z.string())
      .nullable()
      .transform((env) => env ?? []),
    Labels: names.nullable().transform((labels) => labels ?? {}),
  }),
  HostConfig: z.record(z.string(), z.unknown()),
  ExecIDs: orEmpty(z.array(z.string())),
  Mounts: z.array(
    z.object({
      Type: z.string(),
      Name: z.string().optional(),
      Source: z.string().optional(),
      Destination: z.string(),
      RW: z.boolean(),
    }),
  ),
  NetworkSettings: z.object({ Networks: orEmpty(z.record(z.string(), z.unknown())) }),
});

export const containersAnswer = z.array(
  z.object({
    Id: z.string(),
    Names: z.array(z.string()),
    Labels: names.nullable().transform((labels) => labels ?? {}),
    State: z.string(),
    Created: z.number(),
  }),
);

export const volumeAnswer = z.object({
  Name: z.string(),
  Driver: z.string(),
  Mountpoint: z.string().optional(),
  Labels: orEmpty(names),
  Options: orEmpty(names),
});
export const networksAnswer = z.array(z.object({ Id: z.string(), Name: z.string(), Labels: orEmpty(names) }));
export const volumesAnswer = z.object({ Volumes: orEmpty(z.array(volumeAnswer)) });

export type ImageAnswer = z.infer<typeof imageAnswer>;
export const imageAnswer = z.object({
  Id: z.string(),
  RepoTags: orEmpty(z.array(z.string())),
  Created: orEmpty(z.string()),
  Size: z.number(),
  Architecture: z.string(),
  Config: orEmpty(
    z.object({
      Env: orEmpty(z.array(z.string())),
      Labels: orEmpty(names),
      Volumes: orEmpty(z.record(z.string(), z.unknown())),
    }),
  ),
});

export const imagesAnswer = z.array(z.object({ Id: z.string() }));

export const versionAnswer = z.object({
  Version: z.string(),
  ApiVersion: z.string(),
  Components: orEmpty(z.array(z.object({ Name: z.string(), Version: z.string() }))),
});

export const infoAnswer = z.object({
  Name: z.string().optional(),
  KernelVersion: z.string(),
  OperatingSystem: z.string(),
  Architecture: z.string(),
  NCPU: z.number(),
  MemTotal: z.number(),
  MemoryLimit: z.boolean().optional(),
  SwapLimit: z.boolean().optional(),
  PidsLimit: z.boolean().optional(),
  CpuCfsPeriod: z.boolean().optional(),
  CpuCfsQuota: z.boolean().optional(),
  CPUCfsQuota: z.boolean().optional(),
  CgroupVersion: z.string().optional(),
  Driver: z.string(),
  DockerRootDir: z.string().optional(),
  Runtimes: orEmpty(z.record(z.string(), z.looseObject({ runtimeArgs: orEmpty(z.array(z.string())) }))),
  SecurityOptions: orEmpty(z.array(z.string())),
  SystemTime: z.string().optional(),
});
