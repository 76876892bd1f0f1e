using System.Xml;
using ImageMount.Core.Block;

namespace ImageMount.Formats.Dmg;

/// <summary>
/// Finds the block tables in the XML property list: plist → dict "resource-fork" → array "blkx" of dicts, each with a
/// name and base64 "Data". Everything else is skipped. No DTD is read, nothing is fetched, entities are not expanded.
/// </summary>
internal static class DmgPropertyList
{
    /// <summary>Adds every table to <paramref name="tables"/>.</summary>
    /// <param name="xml">The property list.</param>
    /// <param name="offset">Where it is in the file, for messages.</param>
    /// <param name="tables">Where the tables go.</param>
    public static void Read(byte[] xml, long offset, DmgTables tables)
    {
        var settings = new XmlReaderSettings
        {
            DtdProcessing = DtdProcessing.Ignore, // Apple's lists name one.
            XmlResolver = null,
            IgnoreComments = true,
            IgnoreProcessingInstructions = true,
            IgnoreWhitespace = true,
            MaxCharactersInDocument = xml.Length,
        };
        try
        {
            int end = xml.AsSpan().LastIndexOfAnyExcept((byte)0) + 1; // Some writers pad.
            using var stream = new MemoryStream(xml, 0, end, writable: false);
            using XmlReader reader = XmlReader.Create(stream, settings);
            ReadDocument(reader, tables);
        }
        catch (Exception e) when (
            e is XmlException or FormatException or InvalidOperationException or ArgumentException)
        {
            throw new BlockException(BlockErrorKind.InvalidData, $"the property list is damaged ({e.Message})", e)
            {
                Offset = offset,
            };
        }
        catch (BlockException e)
        {
            e.Offset ??= offset;
            throw;
        }
    }

    private static void ReadDocument(XmlReader reader, DmgTables tables)
    {
        reader.MoveToContent();
        Enter(reader, "plist");
        Enter(reader, "dict");
        if (FindValue(reader, "resource-fork", "dict") && FindValue(reader, "blkx", "array"))
        {
            byte[] buffer = new byte[64 << 10];
            while (reader.NodeType == XmlNodeType.Element)
            {
                ReadTable(reader, tables, ref buffer);
            }
        }
    }

    /// <summary>Steps inside an element; any other is an error.</summary>
    private static void Enter(XmlReader reader, string element)
    {
        if (!reader.IsStartElement(element))
        {
            throw new XmlException($"<{reader.Name}> where <{element}> should be");
        }

        if (reader.IsEmptyElement)
        {
            throw new XmlException($"<{element}> is empty");
        }

        reader.ReadStartElement();
    }

    /// <summary>Inside a dict: goes to the value of a key and steps inside it. False: there is no such key.</summary>
    private static bool FindValue(XmlReader reader, string key, string element)
    {
        while (reader.NodeType == XmlNodeType.Element)
        {
            if (ReadKey(reader) == key)
            {
                Enter(reader, element);
                return true;
            }

            reader.Skip();
        }

        return false;
    }

    private static string ReadKey(XmlReader reader) => reader.Name == "key"
        ? reader.ReadElementContentAsString()
        : throw new XmlException($"<{reader.Name}> where <key> should be");

    /// <summary>One dict of the array; leaves the reader after it.</summary>
    private static void ReadTable(XmlReader reader, DmgTables tables, ref byte[] buffer)
    {
        Enter(reader, "dict");
        string? name = null;
        int count = -1;
        while (reader.NodeType == XmlNodeType.Element)
        {
            string key = ReadKey(reader);
            if (reader.NodeType == XmlNodeType.Element && reader.Name == "data" && key == "Data")
            {
                if (count >= 0)
                {
                    throw new XmlException("a table has its data twice");
                }

                count = ReadBytes(reader, ref buffer);
            }
            else if (reader.NodeType == XmlNodeType.Element && reader.Name == "string" && key is "Name" or "CFName")
            {
                string text = reader.ReadElementContentAsString();
                name = string.IsNullOrEmpty(name) ? text : name; // Name, if it says anything.
            }
            else
            {
                reader.Skip();
            }
        }

        reader.ReadEndElement();
        if (count < 0)
        {
            throw new XmlException("a table has no data");
        }

        tables.Add(name ?? "", buffer.AsSpan(0, count));
    }

    private static int ReadBytes(XmlReader reader, ref byte[] buffer)
    {
        int count = 0;
        while (true)
        {
            if (count == buffer.Length)
            {
                Array.Resize(ref buffer, 2 * count); // Bounded by the size of the list.
            }

            int read = reader.ReadElementContentAsBase64(buffer, count, buffer.Length - count);
            if (read == 0)
            {
                return count;
            }

            count += read;
        }
    }
}
