namespace ImageMount.Core.Block;

/// <summary>A part of a node, as the options "offset" and "size" choose it.</summary>
/// <param name="Offset">First byte.</param>
/// <param name="Length">Bytes.</param>
/// <param name="IsWhole">True when neither option was given: the part is all of the node, and grows with it.</param>
public readonly record struct FileRegion(long Offset, long Length, bool IsWhole)
{
    /// <summary>Checks the options against the length of the node.</summary>
    /// <exception cref="BlockException">InvalidArgument: the part does not lie inside the node.</exception>
    public static FileRegion Choose(long nodeLength, long offset, long? size)
    {
        if (offset < 0 || offset > nodeLength)
        {
            throw new BlockException(BlockErrorKind.InvalidArgument, "option 'offset' lies behind the end of the file")
            {
                Found = $"0x{offset:x}",
                Expected = $"0…0x{nodeLength:x}",
            };
        }

        long rest = nodeLength - offset;
        if (size is < 0 || size > rest)
        {
            throw new BlockException(
                BlockErrorKind.InvalidArgument, "option 'size' reaches behind the end of the file")
            {
                Found = $"0x{size:x}",
                Expected = $"0…0x{rest:x} from offset 0x{offset:x}",
            };
        }

        return new FileRegion(offset, size ?? rest, offset == 0 && size is null);
    }
}
