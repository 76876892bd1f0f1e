using ImageMount.Core.Bits;

namespace ImageMount.Protocols.Iscsi;

/// <summary>Why a command ended with a check condition (SPC-4, 4.5): a key, and a code with its qualifier.</summary>
/// <param name="Key">Sense key.</param>
/// <param name="Code">Additional sense code in the high byte, its qualifier in the low one.</param>
internal readonly record struct ScsiSense(byte Key, ushort Code)
{
    public const byte RecoveredError = 0x1;
    public const byte NotReady = 0x2;
    public const byte MediumError = 0x3;
    public const byte IllegalRequest = 0x5;
    public const byte UnitAttention = 0x6;
    public const byte DataProtect = 0x7;
    public const byte AbortedCommand = 0xB;

    public const ushort BecomingReady = 0x0401;
    public const ushort SelfTest = 0x0409;
    public const ushort PathInTransition = 0x040A;
    public const ushort OutOfRange = 0x2100;
    public const ushort SpaceExhausted = 0x2707;
    public const ushort MediumChanged = 0x2800;

    /// <summary>High byte of <see cref="Code"/>: power on or a reset, and what was not flushed may be gone.</summary>
    public const int Reset = 0x29;

    /// <summary>High byte of <see cref="Code"/>: nothing in the drive.</summary>
    public const int NoMedium = 0x3A;

    private static readonly string[] Keys =
    [
        "no sense", "recovered error", "not ready", "medium error", "hardware error", "illegal request", "unit attention",
        "data protect", "blank check", "vendor specific", "copy aborted", "aborted command", "reserved", "volume overflow",
        "miscompare", "completed",
    ];

    /// <summary>High byte of <see cref="Code"/>.</summary>
    public int Class => Code >> 8;

    /// <summary>
    /// Reads sense data as iSCSI has it (RFC 7143, 11.4.7): its length, then fixed or descriptor format. What is not there
    /// counts as zero.
    /// </summary>
    public static ScsiSense Parse(ReadOnlySpan<byte> data)
    {
        var reader = new SpanReader(data);
        if (!reader.TryRead(out Be16 length)
            || !reader.TryTake(Math.Min(length.Value, reader.Remaining), out ReadOnlySpan<byte> sense) || sense.Length < 1)
        {
            return default;
        }

        bool isFixed = (sense[0] & 0x7F) is 0x70 or 0x71;
        bool isDescriptor = (sense[0] & 0x7F) is 0x72 or 0x73;
        int key = isFixed ? 2 : isDescriptor ? 1 : int.MaxValue;
        int code = isFixed ? 12 : 2;
        if (sense.Length <= key)
        {
            return default;
        }

        int high = sense.Length > code ? sense[code] : 0;
        int low = sense.Length > code + 1 ? sense[code + 1] : 0;
        return new ScsiSense((byte)(sense[key] & 0x0F), (ushort)((high << 8) | low));
    }

    /// <summary>"illegal request, 21/00".</summary>
    public override string ToString() => $"{Keys[Key & 0x0F]}, {Class:x2}/{Code & 0xFF:x2}";
}
