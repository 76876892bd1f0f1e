using System.Runtime.InteropServices;
using ImageMount.Core.Bits;

namespace ImageMount.Mounting.Partitions;

/// <summary>GPT header and entry, UEFI 2.10 sections 5.3.2 and 5.3.3.</summary>
internal static class GptLayout
{
    public const int HeaderSize = 92;
    public const int HeaderCrcOffset = 16;
    public const int EntrySize = 128;
    public const int NameOffset = 56;
    public const int NameLength = 72;
    public const ulong AttributeLegacyBootable = 1UL << 2;

    /// <summary>"EFI PART".</summary>
    public const ulong Signature = 0x5452415020494645;

    /// <summary>Largest entry array that is read, bytes. The usual one has 16 KiB.</summary>
    public const long MaxTableSize = 4 << 20;

    /// <summary>The header, 92 bytes.</summary>
    [StructLayout(LayoutKind.Sequential, Pack = 1)]
    internal readonly struct Header
    {
        public readonly Le64 Signature;
        public readonly Le32 Revision;
        public readonly Le32 HeaderSize;
        public readonly Le32 HeaderCrc32;
        public readonly Le32 Reserved;
        public readonly Le64 MyLba;
        public readonly Le64 AlternateLba;
        public readonly Le64 FirstUsableLba;
        public readonly Le64 LastUsableLba;
        public readonly Guid DiskGuid;
        public readonly Le64 EntriesLba;
        public readonly Le32 EntryCount;
        public readonly Le32 EntrySize;
        public readonly Le32 EntriesCrc32;
    }

    /// <summary>The fixed part of an entry, before the name.</summary>
    [StructLayout(LayoutKind.Sequential, Pack = 1)]
    internal readonly struct Entry
    {
        // GUIDs are stored with the first three fields little-endian, which is how Guid lies in memory here.
        public readonly Guid Type;
        public readonly Guid Unique;
        public readonly Le64 FirstLba;
        public readonly Le64 LastLba;
        public readonly Le64 Attributes;
    }
}
